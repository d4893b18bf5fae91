"""Measure one cell of a round in turns: warm it up, time its turns, and record it."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from scorematrix.matrix.meter import Calls, Meter, error_text
from scorematrix.measure import PassSample, RequestSample, time_request
from scorematrix.measure.clock import RAW_CLOCK
from scorematrix.measure.noise import process_seconds
from scorematrix.measure.slowed import Slowed
from scorematrix.results import Cell
from scorematrix.results.cells import Turn
from scorematrix.scoring import Backend
from scorematrix.workload import ScoreRequest
from scorematrix.workload.fresh import secret_seed

MOST_WARMUP_PASSES = 8
SHORT_NS = 20_000_000
"""Shorter calls get one more warm-up pass than the params say, because the first pass does not represent later ones.
Each of their turns starts with an untimed request, because the other members' work has filled the caches."""
LONG_ENOUGH_NS = 2_000_000
"""Twice the required 1 ms of a timed window, because calls may get faster after the warm-up (rule 10)."""

MOST_REPEATS = 2_000
"""Most calls in one window, each with different tokens: enough for calls of 1 µs."""

OUT_OF_MEMORY = ("out of memory", "resource_exhausted", "outofmemory", "memoryerror", "bad_alloc", "allocate memory")
"""Texts in an error after which a process may keep memory that cannot be freed."""


class CellInTurns:
    """An unfinished cell: it warms up, then scores one request per turn in the conductor's order."""

    def __init__(self, meter: Meter, backend: Backend, chunk_size: int, slowdown: float = 1.0) -> None:
        self.chunk_size, self.slowdown = chunk_size, slowdown
        self.error: str | None = None
        self._meter = meter
        self._backend = Slowed(backend, slowdown) if slowdown > 1 else backend
        self._calls = meter.workload.calls(chunk_size)
        self._warmup: list[PassSample] = []
        self._repeats, self._compiles, self._peak_bytes = 1, 0, None
        self._turns: list[tuple[dict[str, Any], RequestSample]] = []

    def warm_up(self) -> None:
        """Make the untimed passes and set the calls per window. A call that raises fails the cell."""
        meter = self._meter
        meter.memory.reset()
        try:
            while len(self._warmup) < meter.n_warmup or (meter.n_warmup and self._is_hurrying()):
                self._repeats = _repeats(self._warmup)
                samples = [
                    time_request(self._backend, calls, meter.watchdog, self._repeats, self._others(calls))
                    for calls in self._calls
                ]
                self._warmup.append(PassSample([one.call_ns for one in samples], [one.scores for one in samples]))
            self._repeats = _repeats(self._warmup)
        except Exception as error:
            self.error = error_text(error)
        self._peak_bytes = meter.memory.peak_bytes()

    def turn(self, lap: int, request: int, seed: int | None = None) -> None:
        """Score one request. A call that raises fails the cell.

        Args:
            seed: of the tokens to draw for the request; None: use the workload's tokens.
        """
        meter, began = self._meter, time.clock_gettime_ns(RAW_CLOCK)
        is_short = self._warmup and min(ns for one in self._warmup[-1].call_ns for ns in one) < SHORT_NS
        calls = self._calls[request] if seed is None else meter.drawn(meter.requests[request], seed, self.chunk_size)
        others = self._others(calls)
        before, reported = meter.compiles(), len(self._backend.compile_events)
        process_before, untimed_ns = process_seconds(meter.processes), 0
        try:
            if meter.touch is not None:
                touched = time.clock_gettime_ns(RAW_CLOCK)
                meter.touch()
                untimed_ns = time.clock_gettime_ns(RAW_CLOCK) - touched
            if is_short:
                warm = [meter.fresh.like(call, lap) for call in calls]
                untimed_ns += time_request(self._backend, warm, meter.watchdog).raw_ns
            # For drawn tokens the collector stays on, so a backend cannot tell from it which calls are timed.
            sample = time_request(self._backend, calls, meter.watchdog, self._repeats, others, seed is not None)
        except Exception as error:
            self.error = error_text(error)
            return
        process_ns = int((process_seconds(meter.processes) - process_before) * 1e9)
        self._compiles += max(meter.compiles() - before, len(self._backend.compile_events) - reported)
        kept = dict(
            lap=lap,
            request=request,
            raw_ns=sample.raw_ns,
            untimed_ns=untimed_ns,
            process_ns=process_ns,
            handled_ns=time.clock_gettime_ns(RAW_CLOCK) - began,
        )
        if seed is not None:
            kept |= {"fresh_seed": seed, "fresh_scores": sample.scores.astype(float).tolist()}
        self._turns.append((kept, sample))

    def _others(self, calls: Sequence[ScoreRequest]) -> list[list[ScoreRequest]]:
        """Draw the further requests in the window of each call."""
        return [[self._meter.fresh.like(call, secret_seed()) for _ in range(self._repeats - 1)] for call in calls]

    @property
    def last_seconds(self) -> float:
        """Seconds of the last turn's calls; 0 before the first."""
        return sum(self._turns[-1][1].call_ns) / 1e9 if self._turns else 0.0

    def failed(self) -> Cell:
        """Return the record of a cell with an error."""
        return Cell(
            chunk_size=self.chunk_size,
            slowdown=self.slowdown,
            status="failed",
            error=self.error,
            crashed=self.ran_out_of_memory,
        )

    @property
    def ran_out_of_memory(self) -> bool:
        """Whether that was the cell's error."""
        return self.error is not None and any(text in self.error.lower() for text in OUT_OF_MEMORY)

    def cell(self, facts: Sequence[Mapping[str, Any]]) -> Cell:
        """Return what was measured.

        Args:
            facts: what the conductor knows of each turn, in order.
        """
        if self.error is not None:
            return self.failed()
        passes = {lap: i for i, lap in enumerate(dict.fromkeys(kept["lap"] for kept, _ in self._turns))}
        last = {(kept["lap"], kept["request"]): i for i, (kept, _) in enumerate(self._turns)}
        known = [(kept["request"], sample.scores) for kept, sample in self._turns if "fresh_seed" not in kept]
        turns = [
            Turn(
                pass_index=passes[kept["lap"]],
                replaced_ns=None if last[kept["lap"], kept["request"]] == i else sample.call_ns,
                **kept,
                **fact,
            )
            for i, ((kept, sample), fact) in enumerate(zip(self._turns, facts, strict=True))
        ]
        requests = range(len(self._calls))
        kept_ns = [[self._turns[last[lap, request]][1].call_ns for request in requests] for lap in passes]
        final = dict(known)  # the last scores of each request
        apart = [np.abs(scores - final[request]).max() for request, scores in known]
        return Cell(
            chunk_size=self.chunk_size,
            slowdown=self.slowdown,
            status="ok",
            warmup_ns=[sample.call_ns for sample in self._warmup],
            call_ns=kept_ns,
            turns=turns,
            repeats=self._repeats,
            compiles_in_window=self._compiles,
            scores=[final[request].astype(float).tolist() for request in requests],
            pass_deviation=float(np.max(apart)),  # NaN where any score is
            peak_host_bytes=self._peak_bytes,
            computed_tokens=_computed_tokens(self._backend, self._calls),
        )

    def _is_hurrying(self) -> bool:
        """Return whether short calls need another pass: the extra one, or one because they still get faster."""
        quickest = min(ns for one in self._warmup[-1].call_ns for ns in one)
        once_more = len(self._warmup) == self._meter.n_warmup and quickest < SHORT_NS
        return once_more or (len(self._warmup) < MOST_WARMUP_PASSES and _repeats(self._warmup) > 2 * self._repeats)


def _repeats(warmup: Sequence[PassSample]) -> int:
    """Return how often to repeat a call in a window so that the window is long enough to time."""
    calls = [ns for sample in warmup[-1:] for one in sample.call_ns for ns in one]
    shortest = min(calls, default=LONG_ENOUGH_NS)
    return 1 if shortest >= LONG_ENOUGH_NS else min(MOST_REPEATS, -(-LONG_ENOUGH_NS // max(shortest, 1)))


def _computed_tokens(backend: Backend, calls: Calls) -> int | None:
    count = getattr(backend, "computed_tokens", None)
    return None if count is None else sum(count(call) for one in calls for call in one)
