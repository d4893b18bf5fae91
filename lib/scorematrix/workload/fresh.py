"""Requests that no scorer can have seen: a workload's lengths with newly drawn tokens."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from scorematrix.workload.request import ScoreRequest

FEWEST_TOKENS = 64
"""With fewer distinct tokens, draws would soon repeat. Then all ids up to the largest are drawn from."""

SEED_BITS = 53
"""Every JSON reader reads a seed of this size exactly."""


def secret_seed() -> int:
    """Return a seed from the system's random source. Its tokens cannot be predicted from params and seeds."""
    return secrets.randbits(SEED_BITS)


class FreshTokens:
    """Draw requests like those of a workload.

    Args:
        requests: the requests whose tokens are drawn from.
    """

    def __init__(self, requests: Sequence[ScoreRequest]) -> None:
        pool = np.unique([t for r in requests for ids in (r.query_ids, *r.items_ids) for t in ids])
        self._pool = pool if len(pool) >= FEWEST_TOKENS else np.arange(pool[-1] + 1)

    def like(self, request: ScoreRequest, seed: int) -> ScoreRequest:
        """Return a request of the same lengths and labels; the same seed gives the same request."""
        rng = np.random.Generator(np.random.PCG64(seed))
        lengths = [len(request.query_ids), *map(len, request.items_ids)]
        drawn = np.split(self._pool[rng.integers(len(self._pool), size=sum(lengths))], np.cumsum(lengths)[:-1])
        query_ids, *items_ids = (tuple(ids.tolist()) for ids in drawn)
        return replace(request, query_ids=query_ids, items_ids=tuple(items_ids))
