"""Base of the backends in separate environments: writes their weights, starts a worker, keeps the Backend protocol."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal

from scorematrix.models.cache import cache_folder
from scorematrix.models.catalogue import Model
from scorematrix.scoring.contract import BackendInfo, CompileEvent, DType, Scores
from scorematrix.scoring.peers.process import PeerProcess
from scorematrix.scoring.precision import auto_dtype
from scorematrix.scoring.registry import BACKENDS
from scorematrix.workload.request import ScoreRequest


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
