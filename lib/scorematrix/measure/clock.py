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

RAW_CLOCK = getattr(time, "CLOCK_MONOTONIC_RAW", time.CLOCK_MONOTONIC)


@dataclass(frozen=True)
class RequestSample:
    """The calls of one request.

    Attributes:
        call_ns: of each call, by the clock that figures are taken from.
        raw_ns: of all of them together by CLOCK_MONOTONIC_RAW, which no time service slews.
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
) -> RequestSample:
    """Score the calls of one request, in the order that a client would send them, timing each end to end.

    Args:
        repeats: so many calls are made in one window, and a call's time is the window's share: for calls that are
            too short to time (rule 10).
        others: for each call, what to ask in the same window beside it, once each, of the same lengths: what was asked
            just now may be remembered. Without them the call itself is repeated.

    Raises:
        ValueError: where an answer's shape or type is not what the protocol promises.
    """
    call_ns, parts, answer, kept = [], [], None, None
    gc.collect()
    gc.disable()  # as timeit does: a collection is neither framework's work
    try:
        raw = time.clock_gettime_ns(RAW_CLOCK)
        for i, call in enumerate(calls):
            asked = [*(others[i] if others else [call] * (repeats - 1)), call]  # its own answer is the last
            with watchdog.limit():
                start = time.perf_counter_ns()
                for one in asked:
                    answer = backend.score(one)
                    # A copy: what is computed only when it is read is computed now.
                    kept = np.array(answer, subok=False) if isinstance(answer, np.ndarray) else None
                end = time.perf_counter_ns()
            call_ns.append((end - start) // len(asked))
            checked_scores(answer, call)
            parts.append(kept)
        raw = time.clock_gettime_ns(RAW_CLOCK) - raw
    finally:
        gc.enable()
    return RequestSample(call_ns, raw, np.concatenate(parts))


def time_pass(
    backend: Backend, requests: Sequence[Sequence[ScoreRequest]], watchdog: Watchdog, repeats: int = 1
) -> PassSample:
    """Every request after the other, see `time_request`."""
    samples = [time_request(backend, calls, watchdog, repeats) for calls in requests]
    return PassSample([sample.call_ns for sample in samples], [sample.scores for sample in samples])
