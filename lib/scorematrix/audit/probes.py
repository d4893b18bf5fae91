"""The requests that an audit asks: small, seeded, ragged, and built so that each known lie changes an answer."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from scorematrix.workload.request import ScoreRequest

ITEM_TOKENS = (4, 1, 9, 4, 6, 4, 13, 2)
QUERY_TOKENS = 24


@dataclass(frozen=True)
class Probes:
    """One base request and what belongs to it.

    Attributes:
        other_query: the base with another query.
        vocab_size: ids from here on must be refused.
    """

    base: ScoreRequest
    other_query: ScoreRequest
    vocab_size: int

    @property
    def whole_vocabulary(self) -> ScoreRequest:
        """The base, asking for shares of the whole vocabulary."""
        return replace(self.base, apply_softmax=False)

    def with_items(self, items: list[tuple[int, ...]]) -> ScoreRequest:
        """The base's query and labels with other items."""
        return replace(self.base, items_ids=tuple(items))


def make_probes(vocab_size: int, seed: int = 0) -> Probes:
    """Random ids below the vocabulary's end; items of differing length, some of one length not next to each other."""
    rng = np.random.default_rng(seed)

    def ids(n: int) -> tuple[int, ...]:
        return tuple(rng.integers(0, vocab_size, n).tolist())

    labels = tuple(rng.choice(vocab_size, 3, replace=False).tolist())
    base = ScoreRequest(ids(QUERY_TOKENS), tuple(ids(n) for n in ITEM_TOKENS), labels)
    return Probes(base, replace(base, query_ids=ids(QUERY_TOKENS)), vocab_size)
