"""Requests that no scorer can have seen: lengths as in a workload, tokens drawn anew."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from scorematrix.workload.request import ScoreRequest

FEWEST_TOKENS = 64
"""Of fewer different tokens draws would soon repeat: then all up to the largest are drawn from."""

SEED_BITS = 53
"""Of a seed that JSON keeps to the last digit, whoever reads it."""


def secret_seed() -> int:
    """A seed from the system's randomness: nobody who knows params and seeds can foresee its tokens."""
    return secrets.randbits(SEED_BITS)


class FreshTokens:
    """Draws requests like those of a workload.

    Args:
        requests: whose tokens are drawn from.
    """

    def __init__(self, requests: Sequence[ScoreRequest]) -> None:
        pool = np.unique([t for r in requests for ids in (r.query_ids, *r.items_ids) for t in ids])
        self._pool = pool if len(pool) >= FEWEST_TOKENS else np.arange(pool[-1] + 1)

    def like(self, request: ScoreRequest, seed: int) -> ScoreRequest:
        """A request of the same lengths and labels; the same seed gives the same one."""
        rng = np.random.Generator(np.random.PCG64(seed))
        lengths = [len(request.query_ids), *map(len, request.items_ids)]
        drawn = np.split(self._pool[rng.integers(len(self._pool), size=sum(lengths))], np.cumsum(lengths)[:-1])
        query_ids, *items_ids = (tuple(ids.tolist()) for ids in drawn)
        return replace(request, query_ids=query_ids, items_ids=tuple(items_ids))
