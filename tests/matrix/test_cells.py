"""What a round measures: windows long enough to time, and how often a suspicion of caching is asked again."""

from __future__ import annotations

import statistics
import time

import numpy as np
import pytest

from scorematrix.matrix.cells import MOST_PROBE_PASSES, Meter, _too_few
from scorematrix.measure import Watchdog
from scorematrix.measure.memory import HostMemory
from scorematrix.scoring import BackendInfo
from scorematrix.workload import ScoreRequest
from tests.factory import make_workload


def passes(*seconds: float) -> list:
    return [[[int(s * 1e9)]] for s in seconds]


@pytest.mark.parametrize(
    ("fresh", "repeat", "asks_on"),
    [
        ((), (), True),
        ((1.0,), (1.0,), True),
        ((1.0, 1.0), (1.0, 1.0), False),
        ((1.2, 1.3), (1.0, 1.1), True),  # a cache, or a busy machine
        ((1.2, 1.3, 1.0), (1.0, 1.1, 1.0), False),  # it was the machine
        ((2.0,) * MOST_PROBE_PASSES, (1.0,) * MOST_PROBE_PASSES, False),  # it is a cache
    ],
)
def test_a_suspicion_is_asked_again(fresh: tuple, repeat: tuple, asks_on: bool) -> None:
    assert _too_few(passes(*fresh), passes(*repeat)) == asks_on


class Hurrying:
    """A backend whose first calls are slow: the warm-up tells nothing of those that follow."""

    def __init__(self, seconds: list[float]) -> None:
        self.info = BackendInfo("hurrying", "v", "none", "cpu", "float32", "none")
        self.compile_events: list = []
        self._seconds = iter(seconds)

    def prepare(self, requests) -> None:
        pass

    def score(self, request: ScoreRequest) -> np.ndarray:
        time.sleep(next(self._seconds, 0.0002))
        return np.full((len(request.items_ids), len(request.label_ids)), 0.5, np.float32)


@pytest.mark.parametrize(("slow", "n_warmup"), [(2, 3), (0, 1)])
def test_windows_are_long_enough_even_after_a_slow_warmup(slow: int, n_warmup: int) -> None:
    meter = Meter(make_workload(), 1, 2, Watchdog(60, lambda: None), HostMemory(), lambda: 0)
    cell = meter.cell(Hurrying([0.004] * slow), chunk_size=8)
    meter.watchdog.close()
    assert cell.status == "ok" and len(cell.call_ns) == 2 and len(cell.warmup_ns) == n_warmup
    assert statistics.median(ns * cell.repeats for p in cell.call_ns for q in p for ns in q) > 1_000_000
