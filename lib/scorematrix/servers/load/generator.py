"""Generate load: a closed loop of sequential callers, or an open loop that follows a schedule."""

from __future__ import annotations

import asyncio
import gc
import itertools
import sys
import threading
import time
from collections.abc import Coroutine, Sequence
from typing import Any

import numpy as np

from scorematrix.servers.client import checked_address
from scorematrix.servers.load.caller import Caller, Target
from scorematrix.servers.load.connection import Address
from scorematrix.servers.load.deadline_timer import DeadlineTimer, now_ns
from scorematrix.servers.load.questions import Questions
from scorematrix.servers.load.request_log import Plan, RequestLog
from scorematrix.servers.load_records import LoadPoint
from scorematrix.workload import ScoreRequest

KEPT_SAMPLES = 20_000
"""Most latencies kept per point. More are thinned evenly."""


class LoadGenerator:
    """Put a server under load. Every question is unique across all points, warm-ups included.

    Args:
        requests: request shapes, sent in turn; see `Questions`.
        server: kind of server, a key of `DIALECTS`.
        timeout_seconds: timeout of a request, all its calls together.
        bad_every: every Nth request is malformed; 0: none.

    Raises:
        ValueError: for an invalid address, kind of server or number.
    """

    def __init__(
        self,
        url: str,
        requests: Sequence[ScoreRequest],
        *,
        server: str = "sglang",
        model: str = "default",
        timeout_seconds: float = 120.0,
        bad_every: int = 0,
    ) -> None:
        if timeout_seconds < 0.001:
            raise ValueError(f"timeout_seconds={timeout_seconds} must be at least 0.001")
        if bad_every < 0 or bad_every == 1:
            raise ValueError(f"bad_every={bad_every} must be 0 (none) or at least 2")
        self._address = Address.of(checked_address(url))
        self.questions = Questions(requests, address=self._address, server=server, model=model, bad_every=bad_every)
        self._timeout_seconds = timeout_seconds
        self._numbers = itertools.count()

    def closed(self, concurrency: int, plan: Plan) -> LoadPoint:
        """Measure with `concurrency` callers, each with one request in flight.

        A refused caller waits for Retry-After, at most one second. This wait is part of a refusal's cost.
        """
        if concurrency < 1:
            raise ValueError(f"concurrency={concurrency} must be at least 1")
        return _run(self._closed(concurrency, plan))

    def open(self, rate: float, plan: Plan, *, seed: int = 0, max_in_flight: int = 512) -> LoadPoint:
        """Measure with Poisson arrivals that do not wait for the server. Each window has a different seed (rule 29).

        Latency counts from the scheduled time, so that it includes all waiting. A request that is scheduled while
        `max_in_flight` are in flight is counted as not sent.
        """
        if max_in_flight < 1:
            raise ValueError(f"max_in_flight={max_in_flight} must be at least 1")
        seeds = [seed * 1000 + i for i in range(plan.n_windows + 1)]
        due_ns: list[int] = []
        begin = 0.0
        for length, one in zip(plan.lengths, seeds, strict=True):
            if length:
                due_ns += (poisson_arrivals(rate, length, one) + int(begin * 1e9)).tolist()
            begin += length
        return _run(self._open(rate, due_ns, seeds[1:], plan, max_in_flight))

    async def _closed(self, concurrency: int, plan: Plan) -> LoadPoint:
        target = Target(self._address, self.questions, self._timeout_seconds)
        book, cpu = RequestLog(plan, now_ns()), _CpuShare()

        async def call_on() -> None:
            caller = Caller(target)
            while (sent := now_ns()) < book.end_ns:
                number = next(self._numbers)
                book.enter(number, sent, sent)
                outcome = await caller.ask(number)
                book.strike(number, outcome.name, now_ns(), outcome.words)
                if outcome.pause_seconds:
                    await asyncio.sleep(min(outcome.pause_seconds, max(0.0, (book.end_ns - now_ns()) / 1e9)))
            caller.close()

        await asyncio.gather(*(call_on() for _ in range(concurrency)))
        return self._point(book, plan, target, cpu, None, kind="closed", concurrency=concurrency)

    async def _open(
        self, rate: float, due_ns: list[int], seeds: list[int], plan: Plan, max_in_flight: int
    ) -> LoadPoint:
        target = Target(self._address, self.questions, self._timeout_seconds)
        idle: list[Caller] = []
        under_way: set[asyncio.Task] = set()
        alarm = DeadlineTimer()
        book, cpu = RequestLog(plan, now_ns()), _CpuShare()

        async def call_once(number: int, caller: Caller) -> None:
            outcome = await caller.ask(number)
            book.strike(number, outcome.name, now_ns(), outcome.words)
            idle.append(caller)

        for at in due_ns:
            scheduled = book.start_ns + at
            sent = await alarm.until(scheduled)
            if book.n_open >= max_in_flight:
                book.enter_not_sent(scheduled)
                continue
            number = next(self._numbers)
            book.enter(number, scheduled, sent)
            task = asyncio.ensure_future(call_once(number, idle.pop() if idle else Caller(target)))
            under_way.add(task)
            task.add_done_callback(under_way.discard)
        await alarm.until(book.end_ns)
        await asyncio.gather(*under_way)
        alarm.close()
        for caller in idle:
            caller.close()
        return self._point(book, plan, target, cpu, seeds, kind="open", rate=rate, max_in_flight=max_in_flight)

    def _point(
        self, book: RequestLog, plan: Plan, target: Target, cpu: _CpuShare, seeds: list[int] | None, **what: Any
    ) -> LoadPoint:
        return LoadPoint(
            **what,
            warmup=book.warmup(),
            windows=book.windows(seeds=seeds, kept=max(1, KEPT_SAMPLES // plan.n_windows)),
            surplus=target.surplus,
            generator_cpu_share=cpu.share(),
            faults=book.faults,
        )


class _CpuShare:
    """CPU time of this thread since creation, as a share of one core."""

    def __init__(self) -> None:
        self._cpu, self._wall = time.thread_time(), time.perf_counter()

    def share(self) -> float:
        return (time.thread_time() - self._cpu) / max(1e-9, time.perf_counter() - self._wall)


def _run(work: Coroutine[Any, Any, LoadPoint]) -> LoadPoint:
    """Run a coroutine in a new event loop: in this thread, or in a new one if a loop runs here (in a notebook)."""

    def run() -> LoadPoint:
        gc.collect()
        gc.freeze()  # existing objects need no garbage collection while the clock runs
        try:
            with asyncio.Runner(loop_factory=_loop_factory()) as runner:
                return runner.run(work)
        finally:
            gc.unfreeze()

    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return run()
    points: list[LoadPoint] = []
    failed: list[BaseException] = []

    def run_in_thread() -> None:
        try:
            points.append(run())
        except BaseException as error:
            failed.append(error)

    thread = threading.Thread(target=run_in_thread, name="load", daemon=True)
    thread.start()
    thread.join()
    if failed:
        raise failed[0]
    return points[0]


def _loop_factory():
    if sys.platform == "win32":
        return None
    import uvloop

    return uvloop.new_event_loop


def poisson_arrivals(rate: float, seconds: float, seed: int) -> np.ndarray:
    """Return send times in nanoseconds after the start, in order. Equal arguments give equal times on any machine.

    Args:
        rate: mean arrivals per second.

    Raises:
        ValueError: for a rate or a time that is not finite and above 0.
    """
    for name, value in (("rate", rate), ("seconds", seconds)):
        if not (np.isfinite(value) and value > 0):
            raise ValueError(f"{name}={value} must be above 0")
    rng = np.random.Generator(np.random.PCG64(seed))
    arrivals: list[float] = []
    now = 0.0
    while True:
        # Inverse of the exponential distribution over random(): stable across numpy versions.
        for gap in -np.log1p(-rng.random(4096)) / rate:
            now += float(gap)
            if now >= seconds:
                return (np.array(arrivals, dtype=np.float64) * 1e9).astype(np.int64)
            arrivals.append(now)
