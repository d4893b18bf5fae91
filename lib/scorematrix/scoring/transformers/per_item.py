"""One sequence per item, nothing shared: the plainest correct scorer, and in float32 the reference."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from scorematrix.models.catalogue import Model
from scorematrix.scoring.contract import CompileEvent, Scores
from scorematrix.scoring.transformers.model import TransformersModel
from scorematrix.workload.request import ScoreRequest


class PerItemBackend:
    """Backend `transformers`, view `per_item`."""

    def __init__(self, model: Model, *, device: str = "auto", dtype: str = "auto") -> None:
        self._model = TransformersModel(model, "per_item", device, dtype)
        self.info = self._model.info
        self.compile_events: list[CompileEvent] = []

    def prepare(self, requests: Sequence[ScoreRequest]) -> None:
        pass  # Eager execution has no programs to make.

    @torch.inference_mode()
    def score(self, request: ScoreRequest) -> Scores:
        request.check_vocabulary(self._model.config.vocab_size)
        hidden_sd = torch.cat([self._last_hidden(request.query_ids + ids) for ids in request.items_ids])
        return self._model.label_probabilities(hidden_sd, request).cpu().numpy()

    def _last_hidden(self, ids: tuple[int, ...]) -> torch.Tensor:
        tokens = torch.tensor([ids], device=self._model.device)
        return self._model.net.model(input_ids=tokens, use_cache=False).last_hidden_state[:, -1]
