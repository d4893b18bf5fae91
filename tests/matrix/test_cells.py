"""What a round measures: windows long enough to time, and how often a suspicion of caching is asked again."""

from __future__ import annotations

import statistics
import time

import numpy as np
import psutil
import pytest

from scorematrix.matrix.cells import CellInTurns
from scorematrix.matrix.meter import MOST_PROBE_PASSES, Meter, _too_few
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


@pytest.mark.parametrize(("slow", "n_warmup"), [(2, 3), (0, 2)])
def test_windows_are_long_enough_even_after_a_slow_warmup(slow: int, n_warmup: int) -> None:
    meter = make_meter()
    cell = CellInTurns(meter, Hurrying([0.004] * slow), chunk_size=8)
    cell.warm_up()
    for lap, request in ((0, 0), (0, 1), (1, 0), (1, 1)):
        cell.turn(lap, request)
    found = cell.cell([{"place": place} for place in range(4)])
    meter.watchdog.close()
    assert found.status == "ok" and len(found.call_ns) == 2 and len(found.warmup_ns) == n_warmup
    assert statistics.median(ns * found.repeats for p in found.call_ns for q in p for ns in q) > 1_000_000


def test_a_turn_that_is_made_again_takes_the_place_of_the_first() -> None:
    meter = make_meter()
    cell = CellInTurns(meter, Hurrying([0.03] * 99), chunk_size=8)
    cell.warm_up()
    for lap, request in ((3, 0), (3, 1), (5, 0), (5, 1), (3, 1)):
        cell.turn(lap, request)
    found = cell.cell([{"place": place} for place in (2, 4, 6, 8, 9)])
    meter.watchdog.close()
    again = found.turns[1]
    assert [(t.pass_index, t.request, t.lap, t.place) for t in found.turns] == [
        (0, 0, 3, 2), (0, 1, 3, 4), (1, 0, 5, 6), (1, 1, 5, 8), (0, 1, 3, 9)
    ]  # fmt: skip
    assert [t.replaced_ns is not None for t in found.turns] == [False, True, False, False, False]
    assert again.replaced_ns != found.call_ns[0][1] and len(found.call_ns) == 2


def test_a_call_that_raises_makes_a_failed_cell() -> None:
    class Failing(Hurrying):
        def score(self, request: ScoreRequest) -> np.ndarray:
            raise RuntimeError("boom")

    meter = make_meter()
    cell = CellInTurns(meter, Failing([]), chunk_size=8)
    cell.warm_up()
    meter.watchdog.close()
    assert (cell.cell([]).status, "boom" in cell.cell([]).error) == ("failed", True)


def make_meter() -> Meter:
    return Meter(make_workload(), 1, Watchdog(60, lambda: None), HostMemory(), lambda: 0, [psutil.Process()])
