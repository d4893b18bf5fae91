"""Check that a backend does not answer from a cache of whole requests: only its speed shows one that is right."""

from __future__ import annotations

import time

import numpy as np

from scorematrix.audit.contract import BrokenPromise
from scorematrix.audit.search import Search
from scorematrix.results.audits import Gate
from scorematrix.workload.request import ScoreRequest

REPEATED_SHARE = 0.5
"""Answers to a repeated request in less than this share of a new request's time come from a cache."""
TRIES = 3
"""A cache is fast each time; other work on the machine slows one of the two down only now and then."""


def caching_gate(search: Search) -> Gate:
    """Check that a repeated request takes as long as a new one of the same sizes."""
    same = search.draws.drawn(items=4, item=24, query=64, labels=2)
    share = 0.0
    try:
        for _ in range(TRIES):
            if (share := _repeated_share(search, same)) >= REPEATED_SHARE:
                break
    except BrokenPromise as broken:
        return Gate(name="no cache", status="failed", detail=str(broken), request=search.probes.shown(broken.request))
    passed = share >= REPEATED_SHARE
    return Gate(
        name="no cache",
        status="passed" if passed else "failed",
        detail=f"a repeated request takes {share:.2f} times as long as a new one, at least {REPEATED_SHARE} expected",
        found={"share": share},
        allowed={"share": REPEATED_SHARE},
        request=None if passed else search.probes.shown(same),
    )


def _repeated_share(search: Search, same: ScoreRequest) -> float:
    seconds: dict[str, list[float]] = {"new": [], "repeated": []}
    for request in (same, search.draws.other_ids(same)):
        search.score(request)
    for _ in range(7):
        for kind, request in (("new", search.draws.other_ids(same)), ("repeated", same)):
            start = time.perf_counter()
            search.score(request)
            seconds[kind].append(time.perf_counter() - start)
    return float(np.median(seconds["repeated"]) / np.median(seconds["new"]))
