"""The limits that a server states of itself: no request over them is sent."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from scorematrix.workload.request import ScoreRequest

LENGTHS = ("max_model_len", "context_length", "max_req_input_len", "max_positions", "max_call_tokens")
"""Names for the most tokens of query and item together: vLLM's, SGLang's two, and those of `scorematrix serve`."""


@dataclass(frozen=True)
class StatedLimits:
    """What a server accepts, by the names that it uses; empty: it states no limit.

    Attributes:
        values: by name, one of `LENGTHS`, or max_items, max_scores, max_tokens of a request.
    """

    values: Mapping[str, int] = field(default_factory=dict)

    @property
    def length(self) -> tuple[str, int] | None:
        """The least limit of query and item together, with its name."""
        named = [(name, self.values[name]) for name in LENGTHS if name in self.values]
        return min(named, key=lambda one: one[1], default=None)

    def exceeded(self, request: ScoreRequest) -> str | None:
        """Return which limit a request exceeds, with both values and the remedy, or None."""
        n_items, n_query = len(request.items_ids), len(request.query_ids)
        name, most = self.length or ("", 0)
        fewer, shorter = "send fewer items per call", "use a shorter query or shorter items"
        sizes = (
            (name, most, n_query + max(map(len, request.items_ids)), "tokens of query and longest item", shorter),
            ("max_items", self.values.get("max_items"), n_items, "items", fewer),
            ("max_scores", self.values.get("max_scores"), n_items * len(request.label_ids), "scores", fewer),
            ("max_tokens", self.values.get("max_tokens"), request.n_tokens, "tokens", fewer),
        )
        for name, limit, size, what, remedy in sizes:
            if limit and size > limit:
                return (
                    f"the server states {name}={limit}, a call has {size} {what}; {remedy}, "
                    "or start the server with a higher limit"
                )
        return None
