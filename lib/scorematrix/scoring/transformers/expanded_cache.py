"""Compute the query's KV cache once, copy it for each item, and batch the items with padding."""

from __future__ import annotations

import torch

from scorematrix.scoring.transformers.model import TransformersBackend
from scorematrix.workload.request import ScoreRequest


class ExpandedCacheBackend(TransformersBackend):
    """Backend `transformers`, view `expanded_cache`."""

    view = "expanded_cache"

    def last_hidden_sd(self, request: ScoreRequest) -> torch.Tensor:
        device, decoder = self.device, self.net.model
        n_items, n_query = len(request.items_ids), len(request.query_ids)
        query = torch.tensor([request.query_ids], device=device)
        cache = decoder(input_ids=query, use_cache=True).past_key_values
        cache.batch_repeat_interleave(n_items)

        lengths = torch.tensor([len(ids) for ids in request.items_ids], device=device)
        rows = [torch.tensor(ids) for ids in request.items_ids]
        items = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True).to(device)
        real = torch.arange(items.shape[1], device=device) < lengths[:, None]
        seen = torch.cat([real.new_ones(n_items, n_query), real], dim=1).long()
        positions = n_query + torch.arange(items.shape[1], device=device).expand(n_items, -1)
        hidden = decoder(
            input_ids=items, attention_mask=seen, position_ids=positions, past_key_values=cache, use_cache=True
        ).last_hidden_state
        return hidden[torch.arange(n_items, device=device), lengths - 1]
