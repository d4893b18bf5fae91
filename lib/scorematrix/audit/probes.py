"""Requests of an audit: small, seeded, ragged, and built so that each known fault changes an answer."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from scorematrix.workload.request import ScoreRequest, body_of

ITEM_TOKENS = (4, 1, 9, 4, 6, 4, 13, 2)
QUERY_TOKENS = 24
SHOWN_IDS = 4096
"""A body with more ids is shortened when it is shown."""
SHOWN_VALUES = 64
"""Lists that are longer are shortened then."""


@dataclass(frozen=True)
class Probes:
    """One base request and its variants.

    Attributes:
        other_query: the base with another query.
        vocab_size: ids from here on must be refused.
        served_model: a live server's name for the model.
        softmax_only: whether the backend answers only `apply_softmax=True`.
    """

    base: ScoreRequest
    other_query: ScoreRequest
    vocab_size: int
    served_model: str = "default"
    softmax_only: bool = False

    @property
    def whole_vocabulary(self) -> ScoreRequest:
        """The base without softmax, if the backend answers that."""
        return replace(self.base, apply_softmax=self.softmax_only)

    def with_items(self, items: list[tuple[int, ...]]) -> ScoreRequest:
        """Return the base's query and labels with other items."""
        return replace(self.base, items_ids=tuple(items))

    def shown(self, request: ScoreRequest, **more: Any) -> str:
        """Return the `/v1/score` body of a request, so that a user can repeat it."""
        return shown_body(body_of(request, self.served_model) | more)


def shown_body(body: Any) -> str:
    """Return JSON in one line. Of a body with too many ids, long lists keep only their first and last numbers."""
    text = json.dumps(body, separators=(",", ":"), ensure_ascii=False)
    return text if text.count(",") <= SHOWN_IDS else json.dumps(_shortened(body), separators=(",", ":"))


def _shortened(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _shortened(inner) for key, inner in value.items()}
    if not isinstance(value, list):
        return value
    if len(value) <= SHOWN_VALUES:
        return [_shortened(inner) for inner in value]
    if value == (value[:QUERY_TOKENS] * len(value))[: len(value)]:
        return [*value[:QUERY_TOKENS], f"... repeated, {len(value) - QUERY_TOKENS} more ..."]
    return [*map(_shortened, value[:8]), f"... {len(value) - 12} more ...", *map(_shortened, value[-4:])]


def make_probes(vocab_size: int, seed: int = 0, served_model: str = "default", softmax_only: bool = False) -> Probes:
    """Draw random ids of the vocabulary. Item lengths differ; some items of equal length are not adjacent."""
    rng = np.random.default_rng(seed)

    def ids(n: int) -> tuple[int, ...]:
        return tuple(rng.integers(0, vocab_size, n).tolist())

    labels = tuple(rng.choice(vocab_size, 3, replace=False).tolist())
    base = ScoreRequest(ids(QUERY_TOKENS), tuple(ids(n) for n in ITEM_TOKENS), labels)
    return Probes(base, replace(base, query_ids=ids(QUERY_TOKENS)), vocab_size, served_model, softmax_only)
