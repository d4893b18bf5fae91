"""The open loop keeps to its schedule: whoever was due while the server stood still has waited, and it shows."""

from __future__ import annotations

import asyncio
import time

import numpy as np
import pytest
from scipy import stats

from scorematrix.servers.load import LoadGenerator, Plan, poisson_arrivals
from scorematrix.servers.load.questions import Questions
from scorematrix.servers.load_figures import point_figures
from scorematrix.servers.load_records import LoadPoint, LoadRecord, LoadWorkload
from tests.conftest import real_time
from tests.servers.load.fake_server import GOOD, REQUESTS, Answer, Fake, sends, serving

WORKLOAD = LoadWorkload(name="w", sha256="0", n_requests=1, n_items=2, query_tokens=3, tokens=6, calls_per_request=1)


def record_of(*points: LoadPoint) -> LoadRecord:
    return LoadRecord(scorematrix="0", server="sglang", model="m", started_utc="", finished_utc="", seed=0,
                      timeout_seconds=1, workload=WORKLOAD, points=list(points))  # fmt: skip


def test_a_schedule_is_fixed_by_its_seed_and_is_poisson() -> None:
    due = poisson_arrivals(50.0, 100.0, seed=7)
    assert (due == poisson_arrivals(50.0, 100.0, seed=7)).all()
    assert (
        len(due) != len(poisson_arrivals(50.0, 100.0, seed=8)) or (due != poisson_arrivals(50.0, 100.0, seed=8)).any()
    )
    assert (np.diff(due) >= 0).all() and due[0] >= 0 and due[-1] < 100e9
    assert abs(len(due) - 5000) < 4 * 5000**0.5
    gaps = np.diff(due) / 1e9
    assert stats.kstest(gaps, stats.expon(scale=1 / 50.0).cdf).pvalue > 0.05
    assert stats.kstest(np.full(500, 1 / 50.0), stats.expon(scale=1 / 50.0).cdf).pvalue < 1e-6, "even gaps are none"


def test_the_start_of_a_schedule_does_not_change() -> None:
    """Two sides, today or in a year, get the same arrivals."""
    expected = [101_324_690, 132_766_552, 136_950_211]
    assert poisson_arrivals(10.0, 1.0, seed=0)[:3].tolist() == pytest.approx(expected, abs=2)


@pytest.mark.parametrize(("rate", "seconds"), [(0.0, 1.0), (-1.0, 1.0), (float("nan"), 1.0), (1.0, 0.0)])
def test_no_rate_or_time(rate: float, seconds: float) -> None:
    with pytest.raises(ValueError, match=f"rate={rate}|seconds={seconds}"):
        poisson_arrivals(rate, seconds, 0)


STALL_SECONDS, STALL_AT, RATE = 1.0, 60, 100.0


def stalls_once(fake: Fake) -> Answer:
    """Everything stands still for a second when the 60th request has come."""

    async def answer(body: dict, writer: asyncio.StreamWriter) -> None:
        if fake.n_requests == STALL_AT:
            time.sleep(STALL_SECONDS)  # its whole loop
        await sends(GOOD)(body, writer)

    return answer


@real_time
def test_one_stall_shows_in_all_that_were_due_in_it() -> None:
    """No coordinated omission: a request that was due 0.1 s into a stall of 1 s has waited for 0.9 s, sent or not."""
    plan = Plan(0.0, 2.4, 6)
    due = np.concatenate([poisson_arrivals(RATE, 0.4, i + 1) + int(i * 0.4e9) for i in range(6)]) / 1e9
    begin = due[STALL_AT - 1]
    waited = np.sort(begin + STALL_SECONDS - due[(due >= begin) & (due < begin + STALL_SECONDS)])[::-1]
    assert len(waited) > 70
    with serving(stalls_once) as fake:
        point = LoadGenerator(fake.url, REQUESTS).open(RATE, plan)
    assert point.totals.answered == len(due) == fake.n_requests
    latencies = np.sort(np.concatenate([window.latency_ns for window in point.windows]))[::-1] / 1e9
    assert (latencies[: len(waited)] >= waited - 0.01).all()
    assert (latencies[: len(waited)] <= waited + 0.35).all()

    with serving(stalls_once) as fake:  # who waits for the last answer before he asks again sees one bad moment
        closed = LoadGenerator(fake.url, REQUESTS).closed(1, plan)
    assert sum(np.concatenate([window.latency_ns for window in closed.windows]) > 0.5e9) == 1


def test_windows_take_their_own_seeds_and_the_warm_up_counts_for_none() -> None:
    with serving(sends(GOOD)) as fake:
        point = LoadGenerator(fake.url, REQUESTS).open(60.0, Plan(0.5, 0.6, 3), seed=4)
    assert [window.seed for window in point.windows] == [4001, 4002, 4003]
    expected = [len(poisson_arrivals(60.0, 0.2, seed)) for seed in (4001, 4002, 4003)]
    assert [window.offered for window in point.windows] == expected
    assert point.warmup.offered == len(poisson_arrivals(60.0, 0.5, 4000))
    assert point.totals.offered + point.warmup.offered == fake.n_requests
    assert all(len(window.lag_ns) == window.offered for window in point.windows)


@real_time
def test_a_late_generator_says_so_of_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    def marked() -> str | None:
        # A busy machine wakes the generator milliseconds late, which is little beside an answer of a tenth of a second.
        with serving(sends(GOOD[:20], GOOD[20:], pause=0.1)) as fake:
            point = LoadGenerator(fake.url, REQUESTS).open(50.0, Plan(0.2, 0.8, 2))
        return point_figures(point, record_of(point)).limited_by_generator

    assert marked() is None
    sound = Questions.__getitem__

    def slow(self: Questions, number: int):
        time.sleep(0.03)  # work of the generator's own, in its loop
        return sound(self, number)

    monkeypatch.setattr(Questions, "__getitem__", slow)
    assert marked() is not None


def test_it_runs_beside_a_loop_that_runs_already() -> None:
    """A notebook's kernel has a loop in its main thread."""

    async def kernel(url: str) -> int:
        return LoadGenerator(url, REQUESTS).closed(1, Plan(0.0, 0.2, 1)).totals.answered

    with serving(sends(GOOD)) as fake:
        assert asyncio.run(kernel(fake.url)) > 0
