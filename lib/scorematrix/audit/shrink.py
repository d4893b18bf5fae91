"""Shrink a request that is answered wrongly, or the calls before it, to the smallest that still are."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

from scorematrix.workload.request import ScoreRequest

TRIES = 60
PARTS = (2, 4, 16, 1000)
"""Axes take turns: of each, one in so many parts is left out, then one in more."""


def shrunk(
    request: ScoreRequest, fault: str, fault_of: Callable[[ScoreRequest], str | None], end: float
) -> tuple[ScoreRequest, str]:
    """Return the smallest request with a fault that leaving out parts leads to, and its fault."""
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


def shrunk_history(
    calls: Sequence[ScoreRequest], fault_after: Callable[[Sequence[ScoreRequest]], str | None], end: float
) -> tuple[Sequence[ScoreRequest], str | None]:
    """Return the shortest sequence of the last calls after which there is a fault, and the fault, if there is one."""
    n, fault = 1, None
    while time.monotonic() < end and (fault := fault_after(calls[-n:])) is None and n < len(calls):
        n *= 2
    if fault is None:
        return [], None
    kept, i = list(calls[-n:]), 0
    while i < len(kept) and len(kept) > 1 and time.monotonic() < end:
        fewer = kept[:i] + kept[i + 1 :]
        if (still := fault_after(fewer)) is not None:
            kept, fault = fewer, still
        else:
            i += 1
    return kept, fault


def _smaller(request: ScoreRequest) -> Iterator[ScoreRequest]:
    items, query, labels = request.items_ids, request.query_ids, request.label_ids
    for n_parts in PARTS:
        for kept in _without(items, n_parts):
            yield replace(request, items_ids=tuple(kept))
        for kept in _without(query, n_parts):
            yield replace(request, query_ids=tuple(kept))
        if max(map(len, items)) > 1:
            yield replace(request, items_ids=tuple(ids[: max(1, len(ids) - len(ids) // n_parts)] for ids in items))
        for kept in _without(labels, n_parts):
            yield replace(request, label_ids=tuple(kept))
    if max(map(len, items)) > 1:
        yield replace(request, items_ids=tuple(ids[:-1] or ids for ids in items))


def _without(values: Sequence, n_parts: int) -> Iterator[Sequence]:
    """Yield the values without each of so many parts, the last part first."""
    size = max(1, len(values) // n_parts)
    for start in reversed(range(0, len(values), size)):
        if start or size < len(values):
            yield [*values[:start], *values[start + size :]]
