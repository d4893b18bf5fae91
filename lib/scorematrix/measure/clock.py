"""The one instrument: host token ids in, host float32 scores out, nanoseconds between."""

from __future__ import annotations

import gc
import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from scorematrix.measure.watchdog import Watchdog
from scorematrix.scoring.contract import Backend, Scores, checked_scores
from scorematrix.workload.request import ScoreRequest


@dataclass(frozen=True)
class PassSample:
    """One pass over all requests: nanoseconds [request][call], and scores [request] of float32 [items, labels]."""

    call_ns: list[list[int]]
    scores: list[Scores]


def time_pass(
    backend: Backend, requests: Sequence[Sequence[ScoreRequest]], watchdog: Watchdog, repeats: int = 1
) -> PassSample:
    """Score every call of every request, timing each call end to end.

    Args:
        requests: the calls of each request, in the order that a client would send them.
        repeats: a call is made so many times in one window, and its time is the window's share: for calls that are
            too short to time (rule 10).

    Raises:
        ValueError: where an answer's shape or type is not what the protocol promises.
    """
    call_ns: list[list[int]] = []
    scores: list[Scores] = []
    gc.collect()
    gc.disable()  # as timeit does: a collection is neither framework's work
    try:
        for calls in requests:
            times, parts = [], []
            for call in calls:
                with watchdog.limit():
                    start = time.perf_counter_ns()
                    for _ in range(repeats):
                        part = backend.score(call)
                    end = time.perf_counter_ns()
                times.append((end - start) // repeats)
                parts.append(checked_scores(part, call))  # pyright: ignore[reportPossiblyUnboundVariable]  # repeats is at least 1
            call_ns.append(times)
            scores.append(np.concatenate(parts))
    finally:
        gc.enable()
    return PassSample(call_ns, scores)
