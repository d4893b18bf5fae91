"""llama.cpp through llama-cpp-python: decodes the query once and shares its cache between the items' sequences."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from scorematrix.models.gguf_writer import write_gguf
from scorematrix.scoring.peers.backend import PeerBackend

UBATCH = 512
"""Tokens that llama.cpp computes at once: its default."""


class LlamaCppBackend(PeerBackend):
    """Backend `llama-cpp`, view `shared_prefix`."""

    backend = "llama-cpp"
    view = "shared_prefix"
    worker = "llama_cpp_worker.py"

    @property
    def cache_type(self) -> str:
        # bfloat16 keys on a CPU are converted for every product; float16 is llama.cpp's default.
        return "F16" if self.dtype == "bfloat16" else "F32"

    def write_weights(self, path: Path) -> None:
        write_gguf(path, self.model.config, self.model.weights, self.dtype)

    def options(self) -> dict[str, Any]:
        return dict(n_ubatch=UBATCH, n_threads=self.threads, cache_type=self.cache_type)

    def precision(self) -> str:
        return f"{self.dtype} weights, {self.cache_type} keys and values"
