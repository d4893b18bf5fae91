"""Measure a server under load: self-check, sweep and saturation search, in one record."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import httpx

import scorematrix
from scorematrix.results.files import utc_now
from scorematrix.results.schema import Environment
from scorematrix.servers.client import ask_about, checked_address
from scorematrix.servers.load.ceiling import generator_ceiling
from scorematrix.servers.load.generator import LoadGenerator
from scorematrix.servers.load.request_log import Plan
from scorematrix.servers.load_records import LoadPoint, LoadRecord, LoadWorkload
from scorematrix.workload import Workload

CLOSE_ENOUGH = 1.08
"""The search ends when the lowest missed rate is at most this many times the highest sustained rate."""
MOST_POINTS = 10
LOWEST_SHARE = 1 / 64


def find_saturation(
    ask: Callable[[float], LoadPoint], start_rate: float, objective_seconds: float | None = None
) -> list[LoadPoint]:
    """Search for the highest sustained rate and return all measured points, in order.

    Args:
        ask: measures one rate.
        start_rate: first rate, e.g. half of a closed loop's throughput.

    Raises:
        ValueError: if `start_rate` is not above 0.
    """
    if not start_rate > 0:
        raise ValueError(f"start_rate={start_rate} must be above 0")
    points: list[LoadPoint] = []
    sustained, missed, rate = 0.0, float("inf"), start_rate
    while len(points) < MOST_POINTS and rate >= start_rate * LOWEST_SHARE:
        points.append(ask(rate))
        if points[-1].shortfall(objective_seconds) is None:
            sustained = rate
        else:
            missed = rate
        if missed == float("inf"):
            rate *= 1.5
        elif not sustained:
            rate /= 2
        elif missed / sustained <= CLOSE_ENOUGH:
            break
        else:
            rate = (sustained * missed) ** 0.5
    return points


def measure_load(
    url: str,
    workload: Workload,
    *,
    server: str = "sglang",
    model: str = "default",
    device: str = "server",
    concurrency: Sequence[int] = (1, 2, 4, 8),
    rates: Sequence[float] | None = None,
    plan: Plan | None = None,
    objective_seconds: float | None = None,
    max_in_flight: int = 512,
    timeout_seconds: float = 120.0,
    bad_every: int = 0,
    seed: int = 0,
    self_check: bool = True,
    environment: Environment | None = None,
    on_point: Callable[[LoadPoint], None] = lambda _: None,
) -> LoadRecord:
    """Measure a server under load.

    Args:
        workload: its requests are sent in turn, each time with different tokens at the query's start.
        concurrency: closed loop: requests in flight, one point each.
        rates: open loop: arrivals per second, one point each; None: search for the highest sustained rate, unless the
            closed loop got no sound answer.
        on_point: called with each point once it is measured.

    Raises:
        ValueError: naming the argument, its value and the remedy.
    """
    _check(concurrency, rates or (), objective_seconds)
    plan = plan or Plan(2.0, 12.0)
    requests = workload.score_requests()
    with httpx.Client(base_url=checked_address(url)) as http:
        limits = ask_about(http).limits
    if exceeded := next(filter(None, map(limits.exceeded, requests)), None):
        raise ValueError(exceeded)
    generator = LoadGenerator(
        url, requests, server=server, model=model, timeout_seconds=timeout_seconds, bad_every=bad_every
    )
    started = utc_now()
    ceiling = None
    if self_check:
        ceiling = generator_ceiling(requests, server=server, concurrency=max([*concurrency, 8]))
    points: list[LoadPoint] = []

    def keep(point: LoadPoint) -> LoadPoint:
        points.append(point)
        on_point(point)
        return point

    def ask(rate: float) -> LoadPoint:
        return keep(generator.open(rate, plan, seed=seed, max_in_flight=max_in_flight))

    for n in concurrency:
        keep(generator.closed(n, plan))
    if rates is not None:
        for rate in rates:
            ask(rate)
    elif best := max((point.requests_per_second for point in points), default=0.0):
        find_saturation(ask, best / 2, objective_seconds)
    return LoadRecord(
        scorematrix=scorematrix.__version__,
        server=server,
        model=model,
        device=device,
        started_utc=started,
        finished_utc=utc_now(),
        seed=seed,
        timeout_seconds=timeout_seconds,
        objective_seconds=objective_seconds,
        bad_every=bad_every,
        workload=_described(workload, generator.questions.calls_per_request),
        ceiling=ceiling,
        points=points,
        environment=environment,
    )


def _check(concurrency: Sequence[int], rates: Sequence[float], objective_seconds: float | None) -> None:
    if not concurrency and not rates:
        raise ValueError("concurrency=[] and no rates: give at least one of them")
    for name, values in (("concurrency", concurrency), ("rates", rates)):
        if wrong := [value for value in values if not value > 0]:
            raise ValueError(f"{name} contains {wrong[0]}, which is not above 0")
    if objective_seconds is not None and not objective_seconds > 0:
        raise ValueError(f"objective_seconds={objective_seconds} must be above 0")


def _described(workload: Workload, calls_per_request: int) -> LoadWorkload:
    n = len(workload.requests)
    return LoadWorkload(
        name=workload.name,
        sha256=workload.sha256,
        n_requests=n,
        n_items=workload.n_items / n,
        query_tokens=sum(len(request.query_ids) for request in workload.requests) / n,
        tokens=workload.n_tokens / n,
        calls_per_request=calls_per_request,
    )
