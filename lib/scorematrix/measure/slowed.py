"""A known slowdown: the control that shows that the run would detect a difference of its size."""

from __future__ import annotations

import time
from collections.abc import Sequence

from scorematrix.scoring.contract import Backend, Scores
from scorematrix.workload.request import ScoreRequest


class Slowed:
    """A backend whose calls take `slowdown` times as long as those of the backend that it wraps.

    It polls the clock instead of sleeping, because a sleep of milliseconds would overshoot noticeably.
    """

    def __init__(self, backend: Backend, slowdown: float) -> None:
        self._backend, self._slowdown = backend, slowdown
        self.info, self.compile_events = backend.info, backend.compile_events

    def prepare(self, requests: Sequence[ScoreRequest]) -> None:
        self._backend.prepare(requests)

    def score(self, request: ScoreRequest) -> Scores:
        start = time.perf_counter_ns()
        scores = self._backend.score(request)
        end = start + int((time.perf_counter_ns() - start) * self._slowdown)
        while time.perf_counter_ns() < end:
            pass
        return scores
