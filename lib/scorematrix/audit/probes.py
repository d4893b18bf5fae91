"""The requests that an audit asks: small, seeded, ragged, and built so that each known lie changes an answer."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from scorematrix.scoring.server.dialects import body_of
from scorematrix.workload.request import ScoreRequest

ITEM_TOKENS = (4, 1, 9, 4, 6, 4, 13, 2)
QUERY_TOKENS = 24
SHOWN_IDS = 64
"""Lists of more numbers than this are shortened where a body is shown; the probes' own never are."""


@dataclass(frozen=True)
class Probes:
    """One base request and what belongs to it.

    Attributes:
        other_query: the base with another query.
        vocab_size: ids from here on must be refused.
        served_model: the name under which a live server has the model.
        softmax_only: whoever is asked answers `apply_softmax=True` only.
    """

    base: ScoreRequest
    other_query: ScoreRequest
    vocab_size: int
    served_model: str = "default"
    softmax_only: bool = False

    @property
    def whole_vocabulary(self) -> ScoreRequest:
        """The base, asking for shares of the whole vocabulary where that is answered."""
        return replace(self.base, apply_softmax=self.softmax_only)

    def with_items(self, items: list[tuple[int, ...]]) -> ScoreRequest:
        """The base's query and labels with other items."""
        return replace(self.base, items_ids=tuple(items))

    def shown(self, request: ScoreRequest, **more: Any) -> str:
        """The body of `/v1/score` that asks this, for whoever wants to ask it again."""
        return shown_body(body_of(request, self.served_model) | more)


def shown_body(body: Any) -> str:
    """JSON in one line; of long lists the first and the last numbers."""
    return json.dumps(_shortened(body), separators=(",", ":"), ensure_ascii=False)


def _shortened(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _shortened(inner) for key, inner in value.items()}
    if isinstance(value, list) and len(value) > SHOWN_IDS:
        return [*value[:8], f"... {len(value) - 12} more ...", *value[-4:]]
    return [_shortened(inner) for inner in value] if isinstance(value, list) else value


def make_probes(vocab_size: int, seed: int = 0, served_model: str = "default", softmax_only: bool = False) -> Probes:
    """Random ids below the vocabulary's end; items of differing length, some of one length not next to each other."""
    rng = np.random.default_rng(seed)

    def ids(n: int) -> tuple[int, ...]:
        return tuple(rng.integers(0, vocab_size, n).tolist())

    labels = tuple(rng.choice(vocab_size, 3, replace=False).tolist())
    base = ScoreRequest(ids(QUERY_TOKENS), tuple(ids(n) for n in ITEM_TOKENS), labels)
    return Probes(base, replace(base, query_ids=ids(QUERY_TOKENS)), vocab_size, served_model, softmax_only)
