"""vLLM on a CPU: each item a prompt of query and item, the query's keys and values out of its prefix cache."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from scorematrix.models.safetensors_writer import write_hf_folder
from scorematrix.scoring.peers.backend import PeerBackend

# Whole blocks of a query are found again, what is left over is computed with every item: of a query of 2000 tokens 80
# under the CPU backend's own 128, 16 under 32, the smallest that it takes.
BLOCK_TOKENS = 32


class VllmBackend(PeerBackend):
    """Backend `vllm-cpu`, view `prefix_cache`."""

    backend = "vllm-cpu"
    view = "prefix_cache"
    worker = "vllm_worker.py"

    def write_weights(self, path: Path) -> None:
        write_hf_folder(path, self.model.config, self.model.weights, self.dtype)

    def options(self) -> dict[str, Any]:
        return dict(dtype=self.dtype, max_model_len=self.model.config.max_positions, block_size=BLOCK_TOKENS)

    def precision(self) -> str:
        return f"{self.dtype} products"
