"""vLLM on a CPU: each item a prompt of query and item, the query's keys and values out of its prefix cache."""

from __future__ import annotations

import os
from collections.abc import Sequence

from scorematrix.models.cache import cache_folder
from scorematrix.models.catalogue import Model
from scorematrix.models.safetensors_writer import write_hf_folder
from scorematrix.scoring.contract import BackendInfo, CompileEvent, Scores
from scorematrix.scoring.peers.process import PeerProcess
from scorematrix.scoring.precision import auto_dtype
from scorematrix.workload.request import ScoreRequest


class VllmBackend:
    """Backend `vllm-cpu`, view `prefix_cache`."""

    def __init__(self, model: Model, *, device: str = "auto", dtype: str = "auto") -> None:
        chosen = auto_dtype("cpu")[0] if dtype == "auto" else dtype
        folder = cache_folder() / "peers" / f"{model.weights.sha256[:16]}.{chosen}"
        if not (folder / "model.safetensors").is_file():
            write_hf_folder(folder, model.config, model.weights, chosen)
        threads = len(os.sched_getaffinity(0))
        options = dict(path=str(folder), dtype=chosen, max_model_len=model.config.max_positions)
        self._vocab_size = model.config.vocab_size
        self._worker = PeerProcess("vllm", "vllm_worker.py", options)
        self.info = BackendInfo(
            backend="vllm-cpu",
            view="prefix_cache",
            framework="pytorch",
            device="cpu",
            dtype=chosen,
            precision=f"{chosen} products",
            settings={"threads": threads, "model": model.name, **self._worker.info},
        )
        self.compile_events: list[CompileEvent] = []

    def prepare(self, requests: Sequence[ScoreRequest]) -> None:
        pass  # Compiled while it loads.

    def score(self, request: ScoreRequest) -> Scores:
        request.check_vocabulary(self._vocab_size)
        return self._worker.score(request)
