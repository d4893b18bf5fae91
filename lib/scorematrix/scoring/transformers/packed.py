"""Pack query and items into one sequence with a custom mask, as packing recipes for transformers do."""

from __future__ import annotations

import torch

from scorematrix.scoring.packing import QUERY_SEGMENT, pack
from scorematrix.scoring.transformers.model import TransformersBackend
from scorematrix.workload.request import ScoreRequest


class PackedBackend(TransformersBackend):
    """Backend `transformers`, view `packed`."""

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
