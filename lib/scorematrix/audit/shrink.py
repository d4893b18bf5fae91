"""Shrink a request that is answered wrongly to the smallest one that still is."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

from scorematrix.workload.request import ScoreRequest

TRIES = 60


def shrunk(
    request: ScoreRequest, fault: str, fault_of: Callable[[ScoreRequest], str | None], end: float
) -> tuple[ScoreRequest, str]:
    """Return the smallest request with a fault that halving and dropping leads to, and its fault."""
    for _ in range(TRIES):
        for smaller in _smaller(request):
            if time.monotonic() > end:
                return request, fault
            if (still := fault_of(smaller)) is not None:
                request, fault = smaller, still
                break
        else:
            return request, fault
    return request, fault


def _smaller(request: ScoreRequest) -> Iterator[ScoreRequest]:
    items, query, labels = request.items_ids, request.query_ids, request.label_ids
    for kept in _halves(items):
        yield replace(request, items_ids=tuple(kept))
    for kept in _halves(query):
        yield replace(request, query_ids=tuple(kept))
    if max(map(len, items)) > 1:
        yield replace(request, items_ids=tuple(ids[: (len(ids) + 1) // 2] for ids in items))
        yield replace(request, items_ids=tuple(ids[:-1] or ids for ids in items))
    for kept in _halves(labels):
        yield replace(request, label_ids=tuple(kept))


def _halves(values: Sequence) -> Iterator[Sequence]:
    """Yield either half, then all but the first or last."""
    if len(values) > 2:
        yield values[: len(values) // 2]
        yield values[len(values) // 2 :]
    if len(values) > 1:
        yield values[1:]
        yield values[:-1]
