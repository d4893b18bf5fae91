"""Load records, read: what a point shows, what its samples do not carry, and whose limit it is."""

from __future__ import annotations

import pytest

from scorematrix.servers.load_figures import (
    best_closed,
    highest_sustained,
    load_sentence,
    point_figures,
    record_figures,
)
from scorematrix.servers.load_records import LoadCeiling, LoadPoint, LoadRecord, LoadWindow, LoadWorkload

MS = 1_000_000
WORKLOAD = LoadWorkload(name="w", sha256="0", n_requests=1, n_items=10, query_tokens=3, tokens=6, calls_per_request=1)


def window(n: int, latency_ms: float = 20.0, **more) -> LoadWindow:
    """A window of one second in which n requests were answered, each a little later than the one before."""
    latency = [int((latency_ms + i / max(n, 1)) * MS) for i in range(n)]
    return LoadWindow(**{"offered": n, "answered": n, "finished": n, "seconds": 1.0, "latency_ns": latency} | more)


def point(
    n: int = 100, *, rate: float | None = None, concurrency: int | None = None, n_windows: int = 6, **more
) -> LoadPoint:
    about = {name: more.pop(name) for name in ("generator_cpu_share", "surplus") if name in more}
    kind = "closed" if rate is None else "open"
    concurrency = concurrency or (4 if rate is None else None)
    return LoadPoint(kind=kind, rate=rate, concurrency=concurrency, windows=[window(n, **more)] * n_windows,
                     **{"generator_cpu_share": 0.1} | about)  # fmt: skip


def record(*points: LoadPoint, objective_seconds: float | None = None, ceiling: float | None = None) -> LoadRecord:
    return LoadRecord(
        scorematrix="0", server="sglang", model="m", started_utc="", finished_utc="", seed=0, timeout_seconds=1,
        workload=WORKLOAD, points=list(points), objective_seconds=objective_seconds,
        ceiling=None if ceiling is None else LoadCeiling(requests_per_second=ceiling, concurrency=4, seconds=1),
    )  # fmt: skip


def test_rates_and_percentiles() -> None:
    one = point(100)
    figures = point_figures(one, record(one, objective_seconds=0.0205))
    assert (figures.requests_per_second, figures.items_per_second) == (100, 1000)
    assert figures.goodput == pytest.approx(51, abs=1), "half of them within 20.5 ms"
    by_percent = {found.percent: found for found in figures.latency}
    assert by_percent[50].value == pytest.approx(20.5 * MS, rel=0.01) and by_percent[50].state == "shown"
    assert by_percent[95].value == pytest.approx(20.95 * MS, rel=0.01)
    assert by_percent[99].state == "wide" and by_percent[99].low is None, "no window carries a p99 by itself"
    assert by_percent[50].low == by_percent[50].high == pytest.approx(20.5 * MS, rel=0.01)
    uneven = one.model_copy(update={"windows": [window(100, 10.0), *one.windows[:4], window(100, 30.0)]})
    median = point_figures(uneven, record(uneven)).latency[0]
    assert (median.low, median.high) == pytest.approx((10.5 * MS, 30.5 * MS), rel=0.01), "windows, not samples"


@pytest.mark.parametrize(
    ("n", "n_windows", "states"),
    [
        (100, 6, ["shown", "shown", "wide"]),
        (200, 6, ["shown", "shown", "shown"]),
        (61, 6, ["shown", "shown", "suppressed"]),  # 366 samples, 368 are needed
        (2, 6, ["wide", "suppressed", "suppressed"]),
        (200, 4, ["suppressed"] * 3),  # rule 29: at least five windows
    ],
)
def test_percentiles_need_samples(n: int, n_windows: int, states: list[str]) -> None:
    one = point(n, n_windows=n_windows)
    figures = point_figures(one, record(one))
    assert [found.state for found in figures.latency] == states
    assert all((found.value is None) == (found.state == "suppressed") for found in figures.latency)


@pytest.mark.parametrize(
    ("changes", "objective", "words"),
    [
        ({}, None, None),
        ({}, 0.1, None),
        ({"finished": 96}, None, None),
        ({"finished": 90}, None, "540 sound answers while 600 requests were scheduled"),
        ({}, 0.0205, "of the requests within 20.5 ms"),
        ({"answered": 94, "failed": {"timeout": 6}}, None, "0 of 600 requests refused, 36 failed"),
        ({"answered": 94, "refused": 6}, None, "36 of 600 requests refused, 0 failed"),
        ({"answered": 99, "not_sent": 1}, None, "6 requests could not be sent"),
        ({"answered": 90, "rejected": 10, "finished": 90}, None, None),  # bad ones on purpose are no shortfall
    ],
)
def test_what_is_sustained(changes: dict, objective: float | None, words: str | None) -> None:
    one = point(rate=100.0, **changes)
    found = point_figures(one, record(one, objective_seconds=objective)).shortfall
    assert found is None if words is None else words in found


@pytest.mark.parametrize(
    ("one", "ceiling", "words"),
    [
        (point(), 1000.0, None),
        (point(), 150.0, "67% of the 150 requests/s it can do"),
        (point(generator_cpu_share=0.95), 1000.0, "95% of a core"),
        (point(rate=100.0, generator_cpu_share=0.95), None, None),  # an open loop's waits awake
        (point(rate=100.0, lag_ns=[MS] * 100), None, None),
        (point(rate=100.0, lag_ns=[MS] * 95 + [3 * MS] * 5), None, "up to 3 ms late (p99), the median latency is 20"),
    ],
)
def test_whose_limit_it_is(one: LoadPoint, ceiling: float | None, words: str | None) -> None:
    found = point_figures(one, record(one, ceiling=ceiling)).limited_by_generator
    assert found is None if words is None else words in found


def test_the_sentence_says_the_best_the_sustained_and_every_class() -> None:
    points = [
        point(100, concurrency=1),
        point(300, concurrency=4),
        point(100, rate=100.0),
        point(200, rate=200.0, answered=200),
        point(300, rate=300.0, offered=400, failed={"timeout": 90}, refused=10, surplus=1),
    ]
    whole = record(*points, objective_seconds=0.05)
    figures = record_figures(whole)
    assert (best_closed(figures).point.concurrency, highest_sustained(figures).point.rate) == (4, 200.0)
    assert load_sentence(whole) == (
        "sglang: 300 requests/s (3,000 items/s) at best, with 4 at once; 200 requests/s offered are sustained "
        "with 95 % within 50 ms; 60 refused; 540 failed (timeout); 1 unrequested answers"
    )
    dead = point(0, answered=0, offered=7, finished=0, failed={"connection": 7}, latency_ns=[])
    assert load_sentence(record(dead)) == "sglang: no sound answer; none refused; 42 failed (connection)"
