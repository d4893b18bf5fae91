"""Time calls, the same for every backend: from host token ids to host float32 scores, in nanoseconds."""

from __future__ import annotations

import gc
import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from scorematrix.measure.watchdog import Watchdog
from scorematrix.scoring.contract import Backend, Scores, checked_scores
from scorematrix.workload.request import ScoreRequest

RAW_CLOCK = getattr(time, "CLOCK_MONOTONIC_RAW", time.CLOCK_MONOTONIC)


@dataclass(frozen=True)
class RequestSample:
    """The calls of one request.

    Attributes:
        call_ns: of each call, by the clock that all figures use.
        raw_ns: of all calls together, by CLOCK_MONOTONIC_RAW, which no time service slews.
        scores: float32 [items, labels].
    """

    call_ns: list[int]
    raw_ns: int
    scores: Scores


@dataclass(frozen=True)
class PassSample:
    """One pass over all requests: nanoseconds [request][call], and scores [request] of float32 [items, labels]."""

    call_ns: list[list[int]]
    scores: list[Scores]


def time_request(
    backend: Backend,
    calls: Sequence[ScoreRequest],
    watchdog: Watchdog,
    repeats: int = 1,
    others: Sequence[Sequence[ScoreRequest]] = (),
    collecting: bool = False,
) -> RequestSample:
    """Score the calls of one request, in the order that a client would send them, timing each end to end.

    Args:
        repeats: calls in one window, for calls that are too short to time (rule 10); a call's time is its share of the
            window.
        others: for each call, further requests of the same lengths to score once each in its window, because a
            repeated request may be cached. Without them the call is repeated.
        collecting: keep the garbage collector on, as in a deployment. A backend that finds it off can tell it is timed.

    Raises:
        ValueError: if an answer's shape or type violates the protocol.
    """
    call_ns, parts, answer, kept = [], [], None, None
    gc.collect()
    if not collecting:
        gc.disable()  # as timeit does: a collection is neither framework's work
    try:
        raw = time.clock_gettime_ns(RAW_CLOCK)
        for i, call in enumerate(calls):
            window = [*(others[i] if others else [call] * (repeats - 1)), call]  # last, because its answer is kept
            with watchdog.limit():
                start = time.perf_counter_ns()
                for one in window:
                    answer = backend.score(one)
                    # The copy forces scores that are computed lazily.
                    kept = np.array(answer, subok=False) if isinstance(answer, np.ndarray) else None
                end = time.perf_counter_ns()
            call_ns.append((end - start) // len(window))
            checked_scores(answer, call)
            parts.append(kept)
        raw = time.clock_gettime_ns(RAW_CLOCK) - raw
    finally:
        gc.enable()
    return RequestSample(call_ns, raw, np.concatenate(parts))


def time_pass(
    backend: Backend, requests: Sequence[Sequence[ScoreRequest]], watchdog: Watchdog, repeats: int = 1
) -> PassSample:
    """Score one request after the other, see `time_request`."""
    samples = [time_request(backend, calls, watchdog, repeats) for calls in requests]
    return PassSample([sample.call_ns for sample in samples], [sample.scores for sample in samples])
