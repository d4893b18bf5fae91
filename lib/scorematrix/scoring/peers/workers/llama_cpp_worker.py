"""llama.cpp: decodes the query once, shares its cache cells between the items' sequences, batches many items.

Runs in the environment of llama-cpp-python.
"""

from __future__ import annotations

import ctypes
from typing import TYPE_CHECKING, Any

import numpy as np
from loop import serve

if TYPE_CHECKING:
    llama_cpp: Any  # not installed where types are checked
else:
    import llama_cpp

MAX_SEQUENCES = 64
"""Sequences that llama.cpp's cache supports, including the query's."""


class SharedPrefixScorer:
    """A model and its context, which is recreated when a request outgrows it."""

    def __init__(self, options: dict) -> None:
        llama_cpp.llama_backend_init()
        model_params = llama_cpp.llama_model_default_params()
        model_params.n_gpu_layers = 0
        self.model = llama_cpp.llama_model_load_from_file(options["path"].encode(), model_params)
        if not self.model:
            raise RuntimeError(f"llama.cpp did not load {options['path']}")
        self.n_vocab = llama_cpp.llama_vocab_n_tokens(llama_cpp.llama_model_get_vocab(self.model))
        self.options = options
        self.context = None
        self.n_cells = 0

    def reserve(self, n_cells: int) -> None:
        if n_cells <= self.n_cells:
            return
        if self.context:
            llama_cpp.llama_free(self.context)
        params = llama_cpp.llama_context_default_params()
        params.n_ctx = self.n_cells = -(-n_cells // 256) * 256
        params.n_batch = params.n_ctx
        params.n_ubatch = self.options["n_ubatch"]
        params.n_seq_max = MAX_SEQUENCES
        params.n_threads = params.n_threads_batch = self.options["n_threads"]
        params.kv_unified = True
        params.type_k = params.type_v = getattr(llama_cpp, f"GGML_TYPE_{self.options['cache_type']}")
        self.context = llama_cpp.llama_init_from_model(self.model, params)
        if not self.context:
            raise RuntimeError(f"llama.cpp made no context of {params.n_ctx} cells")

    def score(self, request: dict) -> list:
        query, items, labels = request["query_ids"], request["items_ids"], request["label_ids"]
        step = MAX_SEQUENCES - 1
        groups = [items[i : i + step] for i in range(0, len(items), step)]
        self.reserve(len(query) + max(sum(map(len, group)) for group in groups))
        memory = llama_cpp.llama_get_memory(self.context)
        llama_cpp.llama_memory_clear(memory, False)
        self.decode([(token, at, 0, False) for at, token in enumerate(query)])
        rows = []
        for group in groups:
            for seq in range(1, len(group) + 1):
                llama_cpp.llama_memory_seq_cp(memory, 0, seq, -1, -1)
            entries = [
                (token, len(query) + t, seq, t == len(ids) - 1)
                for seq, ids in enumerate(group, start=1)
                for t, token in enumerate(ids)
            ]
            self.decode(entries)
            scored = [i for i, entry in enumerate(entries) if entry[3]]
            rows += [self.probabilities(i, labels, request["apply_softmax"]) for i in scored]
            for seq in range(1, len(group) + 1):
                llama_cpp.llama_memory_seq_rm(memory, seq, -1, -1)
        return rows

    def decode(self, entries: list[tuple[int, int, int, bool]]) -> None:
        batch = llama_cpp.llama_batch_init(len(entries), 0, 1)
        try:
            batch.n_tokens = len(entries)
            for i, (token, position, sequence, scored) in enumerate(entries):
                batch.token[i], batch.pos[i], batch.n_seq_id[i] = token, position, 1
                batch.seq_id[i][0], batch.logits[i] = sequence, scored
            if code := llama_cpp.llama_decode(self.context, batch):
                raise RuntimeError(f"llama_decode returned {code} for {len(entries)} tokens")
        finally:
            llama_cpp.llama_batch_free(batch)

    def probabilities(self, index: int, labels: list[int], apply_softmax: bool) -> list[float]:
        pointer = llama_cpp.llama_get_logits_ith(self.context, index)
        logits = np.ctypeslib.as_array(ctypes.cast(pointer, ctypes.POINTER(ctypes.c_float)), (self.n_vocab,))
        label_logits = logits[labels].astype(np.float64)
        seen = label_logits if apply_softmax else logits.astype(np.float64)
        weights = np.exp(label_logits - seen.max())
        return (weights / np.exp(seen - seen.max()).sum()).tolist()


def load(options: dict) -> tuple[SharedPrefixScorer, dict]:
    return SharedPrefixScorer(options), {
        "llama_cpp_python": llama_cpp.__version__,
        "system": llama_cpp.llama_print_system_info().decode().strip(),
    }


if __name__ == "__main__":
    serve(load, SharedPrefixScorer.score)
