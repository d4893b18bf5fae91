"""vLLM with its prefix cache: the query once, then one prompt per item that repeats the query.

Runs in the environment of vLLM.
"""

from __future__ import annotations

import math
import os
from typing import TYPE_CHECKING, Any

# A separate engine process adds a hop to every request and does not help a single client.
os.environ.setdefault("VLLM_ENABLE_V1_MULTIPROCESSING", "0")
os.environ.setdefault("VLLM_CPU_KVCACHE_SPACE", "2")  # GiB
os.environ.setdefault("VLLM_NO_USAGE_STATS", "1")

from loop import serve

if TYPE_CHECKING:
    vllm: Any  # not installed where types are checked
else:
    import vllm


class PrefixCacheScorer:
    """An offline engine. It empties the cache before each request, so nothing is kept between calls."""

    def __init__(self, options: dict) -> None:
        self.engine = vllm.LLM(
            model=options["path"],
            skip_tokenizer_init=True,
            dtype=options["dtype"],
            enable_prefix_caching=True,
            max_model_len=options["max_model_len"],
            block_size=options["block_size"],
            max_num_seqs=256,
            seed=0,
        )

    def score(self, request: dict) -> list:
        labels = request["label_ids"]
        sampling = vllm.SamplingParams(max_tokens=1, temperature=0.0, detokenize=False, logprob_token_ids=labels)
        query = request["query_ids"]
        self.engine.reset_prefix_cache()
        self.engine.generate([{"prompt_token_ids": query}], sampling, use_tqdm=False)
        prompts = [{"prompt_token_ids": query + ids} for ids in request["items_ids"]]
        rows = []
        for output in self.engine.generate(prompts, sampling, use_tqdm=False):
            logprobs = output.outputs[0].logprobs[0]
            row = [math.exp(logprobs[label].logprob) for label in labels]
            rows.append([p / sum(row) for p in row] if request["apply_softmax"] else row)
        return rows


def load(options: dict) -> tuple[PrefixCacheScorer, dict]:
    return PrefixCacheScorer(options), {"vllm": vllm.__version__, "block_size": options["block_size"]}


if __name__ == "__main__":
    serve(load, PrefixCacheScorer.score)
