"""A known slowdown: the control that shows that a difference of its size would have been found."""

from __future__ import annotations

import time
from collections.abc import Sequence

from scorematrix.scoring.contract import Backend, Scores
from scorematrix.workload.request import ScoreRequest


class Slowed:
    """A backend whose every call takes a known number of times as long as it does.

    It waits by looking at the clock: a sleep of milliseconds would overshoot by a share of its own.
    """

    def __init__(self, backend: Backend, slowdown: float) -> None:
        self._backend, self._slowdown = backend, slowdown
        self.info, self.compile_events = backend.info, backend.compile_events

    def prepare(self, requests: Sequence[ScoreRequest]) -> None:
        self._backend.prepare(requests)

    def score(self, request: ScoreRequest) -> Scores:
        start = time.perf_counter_ns()
        scores = self._backend.score(request)
        due = start + int((time.perf_counter_ns() - start) * self._slowdown)
        while time.perf_counter_ns() < due:
            pass
        return scores
