"""One sequence per item, nothing shared: the plainest correct scorer, and in float32 the reference."""

from __future__ import annotations

import torch

from scorematrix.scoring.transformers.model import TransformersBackend
from scorematrix.workload.request import ScoreRequest


class PerItemBackend(TransformersBackend):
    """Backend `transformers`, view `per_item`."""

    view = "per_item"

    def last_hidden_sd(self, request: ScoreRequest) -> torch.Tensor:
        return torch.cat([self._last_hidden(request.query_ids + ids) for ids in request.items_ids])

    def _last_hidden(self, ids: tuple[int, ...]) -> torch.Tensor:
        tokens = torch.tensor([ids], device=self.device)
        return self.net.model(input_ids=tokens, use_cache=False).last_hidden_state[:, -1]
