"""Query and items as one sequence under a mask of its own, as packing recipes for transformers have it."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from scorematrix.models.catalogue import Model
from scorematrix.scoring.contract import CompileEvent, Scores
from scorematrix.scoring.transformers.model import TransformersModel
from scorematrix.workload.request import ScoreRequest


class PackedBackend:
    """Backend `transformers`, view `packed`."""

    def __init__(self, model: Model, *, device: str = "auto", dtype: str = "auto") -> None:
        self._model = TransformersModel(model, "packed", device, dtype)
        self.info = self._model.info
        self.compile_events: list[CompileEvent] = []

    def prepare(self, requests: Sequence[ScoreRequest]) -> None:
        pass  # Eager execution has no programs to make.

    @torch.inference_mode()
    def score(self, request: ScoreRequest) -> Scores:
        request.check_vocabulary(self._model.config.vocab_size)
        device, n_query = self._model.device, len(request.query_ids)
        lengths = torch.tensor([n_query, *map(len, request.items_ids)])
        ends = lengths.cumsum(0)
        tokens = torch.tensor([request.query_ids + tuple(id for ids in request.items_ids for id in ids)])
        segment = torch.repeat_interleave(torch.arange(len(lengths)), lengths)
        starts = torch.cat([torch.tensor([0]), (ends - lengths)[1:] - n_query])
        positions = torch.arange(tokens.shape[1]) - starts[segment]
        own_or_query = (segment[:, None] == segment[None, :]) | (segment[None, :] == 0)
        mask = own_or_query.tril().to(device)
        hidden = self._model.net.model(
            input_ids=tokens.to(device),
            position_ids=positions[None].to(device),
            attention_mask=mask[None, None],
            use_cache=False,
        ).last_hidden_state
        return self._model.label_probabilities(hidden[0, (ends[1:] - 1).to(device)], request).cpu().numpy()
