"""The views of backend `transformers`: what users of Hugging Face write, and the reference for exactness."""

from __future__ import annotations

import torch

from scorematrix.scoring.packing import QUERY_SEGMENT, pack
from scorematrix.scoring.transformers.model import TransformersBackend
from scorematrix.workload.request import ScoreRequest


class PerItemBackend(TransformersBackend):
    """View `per_item`: one sequence of query and item after the other. The reference."""

    view = "per_item"

    def last_hidden_sd(self, request: ScoreRequest) -> torch.Tensor:
        return torch.cat([self._last_hidden(request.query_ids + ids) for ids in request.items_ids])

    def _last_hidden(self, ids: tuple[int, ...]) -> torch.Tensor:
        tokens = torch.tensor([ids], device=self.device)
        return self.net.model(input_ids=tokens, use_cache=False).last_hidden_state[:, -1]


class ExpandedCacheBackend(TransformersBackend):
    """View `expanded_cache`: the query's KV cache once, a copy for each item, items batched with padding."""

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


class PackedBackend(TransformersBackend):
    """View `packed`: query and items in one sequence with a custom mask, as packing recipes do."""

    view = "packed"

    def last_hidden_sd(self, request: ScoreRequest) -> torch.Tensor:
        packed = pack(request)
        real = slice(packed.n_tokens)  # eager execution needs no padded shapes
        segment = torch.from_numpy(packed.segment_t[real]).to(self.device)
        own_or_query = (segment[:, None] == segment[None, :]) | (segment[None, :] == QUERY_SEGMENT)
        hidden = self.net.model(
            input_ids=torch.from_numpy(packed.token_t[None, real]).to(self.device, torch.long),
            position_ids=torch.from_numpy(packed.position_t[None, real]).to(self.device, torch.long),
            attention_mask=own_or_query.tril()[None, None],
            use_cache=False,
        ).last_hidden_state
        return hidden[0, torch.from_numpy(packed.scored_s[: packed.n_items]).to(self.device, torch.long)]
