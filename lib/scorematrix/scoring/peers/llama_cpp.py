"""llama.cpp through llama-cpp-python: the query decoded once, its cache shared by the items' sequences."""

from __future__ import annotations

import os
from collections.abc import Sequence

from scorematrix.models.cache import cache_folder
from scorematrix.models.catalogue import Model
from scorematrix.models.gguf_writer import write_gguf
from scorematrix.scoring.contract import BackendInfo, CompileEvent, Scores
from scorematrix.scoring.peers.process import PeerProcess
from scorematrix.scoring.precision import auto_dtype
from scorematrix.workload.request import ScoreRequest

UBATCH = 512
"""Tokens that llama.cpp computes at once: its own default."""


class LlamaCppBackend:
    """Backend `llama-cpp`, view `shared_prefix`."""

    def __init__(self, model: Model, *, device: str = "auto", dtype: str = "auto") -> None:
        chosen = auto_dtype("cpu")[0] if dtype == "auto" else dtype
        path = cache_folder() / "peers" / f"{model.weights.sha256[:16]}.{chosen}.gguf"
        if not path.is_file():
            path.parent.mkdir(parents=True, exist_ok=True)
            write_gguf(path, model.config, model.weights, chosen)
        threads = len(os.sched_getaffinity(0))
        # bfloat16 keys on a CPU are converted for every product; float16 is llama.cpp's own default.
        cache_type = "F16" if chosen == "bfloat16" else "F32"
        options = dict(path=str(path), n_ubatch=UBATCH, n_threads=threads, cache_type=cache_type)
        self._vocab_size = model.config.vocab_size
        self._worker = PeerProcess("llama-cpp", "llama_cpp_worker.py", options)
        self.info = BackendInfo(
            backend="llama-cpp",
            view="shared_prefix",
            framework="ggml",
            device="cpu",
            dtype=chosen,
            precision=f"{chosen} weights, {cache_type} keys and values",
            settings={"n_ubatch": UBATCH, "threads": threads, "model": model.name, **self._worker.info},
        )
        self.compile_events: list[CompileEvent] = []

    def prepare(self, requests: Sequence[ScoreRequest]) -> None:
        pass  # Nothing is compiled; the context is made at the first call, which is warm-up.

    def score(self, request: ScoreRequest) -> Scores:
        request.check_vocabulary(self._vocab_size)
        return self._worker.score(request)
