"""The query's KV cache computed once and copied for each item, the items then batched with padding."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from scorematrix.models.catalogue import Model
from scorematrix.scoring.contract import CompileEvent, Scores
from scorematrix.scoring.transformers.model import TransformersModel
from scorematrix.workload.request import ScoreRequest


class ExpandedCacheBackend:
    """Backend `transformers`, view `expanded_cache`."""

    def __init__(self, model: Model, *, device: str = "auto", dtype: str = "auto") -> None:
        self._model = TransformersModel(model, "expanded_cache", device, dtype)
        self.info = self._model.info
        self.compile_events: list[CompileEvent] = []

    def prepare(self, requests: Sequence[ScoreRequest]) -> None:
        pass  # Eager execution has no programs to make.

    @torch.inference_mode()
    def score(self, request: ScoreRequest) -> Scores:
        request.check_vocabulary(self._model.config.vocab_size)
        device, decoder = self._model.device, self._model.net.model
        n_items, n_query = len(request.items_ids), len(request.query_ids)
        query = torch.tensor([request.query_ids], device=device)
        cache = decoder(input_ids=query, use_cache=True).past_key_values
        cache.batch_repeat_interleave(n_items)

        lengths = torch.tensor([len(ids) for ids in request.items_ids], device=device)
        rows = [torch.tensor(ids) for ids in request.items_ids]
        items = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True).to(device)
        own = torch.arange(items.shape[1], device=device) < lengths[:, None]
        seen = torch.cat([own.new_ones(n_items, n_query), own], dim=1).long()
        positions = n_query + torch.arange(items.shape[1], device=device).expand(n_items, -1)
        hidden = decoder(
            input_ids=items, attention_mask=seen, position_ids=positions, past_key_values=cache, use_cache=True
        ).last_hidden_state
        last_hidden = hidden[torch.arange(n_items, device=device), lengths - 1]
        return self._model.label_probabilities(last_hidden, request).cpu().numpy()
