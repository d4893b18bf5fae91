"""What a round measures with a loaded backend: its cells, and the probes and the profile of a tuning round."""

from __future__ import annotations

import dataclasses
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np
import psutil

from scorematrix.matrix.memory import largest_call
from scorematrix.measure import PassSample, RequestSample, Watchdog, time_pass, time_request
from scorematrix.measure.clock import RAW_CLOCK
from scorematrix.measure.memory import HostMemory
from scorematrix.measure.noise import process_seconds
from scorematrix.measure.slowed import Slowed
from scorematrix.models.config import DecoderConfig
from scorematrix.privacy import redacted
from scorematrix.results import Cell, FormTime, Probes, Profile, ProfilePart, ReferenceSample
from scorematrix.results.cells import PassSamples, Turn
from scorematrix.scoring import Backend
from scorematrix.scoring.forms import time_forms
from scorematrix.scoring.profiles import profile_call
from scorematrix.workload import ScoreRequest, Workload
from scorematrix.workload.fresh import FreshTokens, secret_seed

MOST_WARMUP_PASSES = 8
SHORT_NS = 20_000_000
"""Calls below it are warmed up once more than the params say: their first pass tells little of those that follow. In
turns each begins with an untimed one, since the others' work has filled the caches."""
PROBE_PASSES, MOST_PROBE_PASSES = 2, 8
SUSPECT_SHARE = 1.05
"""New queries that take so many times as long as repeated ones are asked again, before a gate calls it a cache."""
LONG_ENOUGH_NS = 2_000_000
"""Twice the millisecond that a timed window has to have: calls after the warm-up may be faster (rule 10)."""

MOST_REPEATS = 2_000
"""Calls of one window, each another one: a microsecond a call."""
SAMPLED_ITEMS = 4
"""Of a request of drawn tokens that the reference scores."""

Calls = Sequence[Sequence[ScoreRequest]]


class CellInTurns:
    """A cell in the making: warmed up, then one request a turn, in the order that a conductor gives."""

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
        """Untimed passes, and how often a call is made in one window; a call that raises makes a failed cell."""
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
        """Score one request; a call that raises makes a failed cell.

        Args:
            seed: of tokens to draw for it; None: its own.
        """
        meter, began = self._meter, time.clock_gettime_ns(RAW_CLOCK)
        is_short = self._warmup and min(ns for one in self._warmup[-1].call_ns for ns in one) < SHORT_NS
        calls = self._calls[request] if seed is None else meter.drawn(meter.requests[request], seed, self.chunk_size)
        others = self._others(calls)
        before, reported = meter.compiles(), len(self._backend.compile_events)
        own, untimed_ns = process_seconds(meter.processes), 0
        try:
            if is_short:
                warm = [meter.fresh.like(call, lap) for call in calls]
                untimed_ns = time_request(self._backend, warm, meter.watchdog).raw_ns
            sample = time_request(self._backend, calls, meter.watchdog, self._repeats, others)
        except Exception as error:
            self.error = error_text(error)
            return
        process_ns = int((process_seconds(meter.processes) - own) * 1e9)
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
        """What is asked in a window beside each of these calls."""
        return [[self._meter.fresh.like(call, secret_seed()) for _ in range(self._repeats - 1)] for call in calls]

    @property
    def last_seconds(self) -> float:
        """Of the last turn's calls; 0 before the first."""
        return sum(self._turns[-1][1].call_ns) / 1e9 if self._turns else 0.0

    def cell(self, facts: Sequence[Mapping[str, Any]]) -> Cell:
        """What was measured.

        Args:
            facts: of each turn, in order, what the conductor knows of it.
        """
        if self.error is not None:
            return Cell(chunk_size=self.chunk_size, slowdown=self.slowdown, status="failed", error=self.error)
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
        final = dict(known)  # of each request the last
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
        """Whether short calls may still become faster: a window of them would be too short to time."""
        quickest = min(ns for one in self._warmup[-1].call_ns for ns in one)
        once_more = len(self._warmup) == self._meter.n_warmup and quickest < SHORT_NS
        return once_more or (len(self._warmup) < MOST_WARMUP_PASSES and _repeats(self._warmup) > 2 * self._repeats)


def _repeats(warmup: Sequence[PassSample]) -> int:
    """How often to make a call in one window, so that a window is long enough to time."""
    calls = [ns for sample in warmup[-1:] for one in sample.call_ns for ns in one]
    shortest = min(calls, default=LONG_ENOUGH_NS)
    return 1 if shortest >= LONG_ENOUGH_NS else min(MOST_REPEATS, -(-LONG_ENOUGH_NS // max(shortest, 1)))


@dataclasses.dataclass(frozen=True)
class Meter:
    """How cells are measured in this process.

    Attributes:
        compiles: tells how many programs the framework has made so far, whoever asked for them.
        processes: this one and its workers.
    """

    workload: Workload
    n_warmup: int
    watchdog: Watchdog
    memory: HostMemory
    compiles: Callable[[], int]
    processes: Sequence[psutil.Process]

    @cached_property
    def requests(self) -> list[ScoreRequest]:
        """The workload's."""
        return self.workload.score_requests()

    @cached_property
    def fresh(self) -> FreshTokens:
        """Draws requests like them."""
        return FreshTokens(self.requests)

    def drawn(self, request: ScoreRequest, seed: int, chunk_size: int) -> list[ScoreRequest]:
        """Return the calls of a request with the same lengths and new tokens; the same tokens at every chunk size."""
        return self.fresh.like(request, seed).chunks(chunk_size)

    def probes(self, backend: Backend, chunk_size: int, *, caching: bool) -> Probes:
        """The workload's items among other neighbours, and drawn requests in turn with the workload's own.

        All have the lengths of the workload's, so nothing new is compiled.

        Args:
            caching: whether to ask drawn requests, which takes a few passes.
        """
        calls = self.workload.calls(chunk_size)
        fresh, repeat = [], []
        try:
            known = time_pass(backend, calls, self.watchdog)
            moved = self._moved(backend, calls, known)
            while caching and _too_few(fresh, repeat):
                drawn = [self.drawn(one, secret_seed(), chunk_size) for one in self.requests]
                fresh.append(time_pass(backend, drawn, self.watchdog).call_ns)
                repeat.append(time_pass(backend, calls, self.watchdog).call_ns)
        except Exception as error:
            return Probes(chunk_size=chunk_size, error=error_text(error))
        return Probes(chunk_size=chunk_size, fresh_ns=fresh, repeat_ns=repeat, neighbours_moved=moved)

    def sample(self, backend: Backend, index: int) -> ReferenceSample:
        """Score some items of a request with drawn tokens.

        Args:
            index: of the confirmation rounds that will score the whole request.
        """
        request, seed = index % len(self.requests), secret_seed()
        drawn = self.fresh.like(self.requests[request], seed)
        n_items = len(drawn.items_ids)
        items = sorted(np.random.default_rng(seed).permutation(n_items)[:SAMPLED_ITEMS].tolist())
        asked = dataclasses.replace(drawn, items_ids=tuple(drawn.items_ids[i] for i in items))
        (scores,) = time_pass(backend, [[asked]], self.watchdog).scores
        return ReferenceSample(
            index=index, request=request, seed=seed, items=items, scores=scores.astype(float).tolist()
        )

    def forms(self, backend: Backend, chunk_size: int) -> list[FormTime]:
        """Time every form of attention that the engine has, on the call with the most tokens."""
        call = self.fresh.like(largest_call(self.workload, chunk_size), secret_seed())
        return [
            FormTime(form=form, seconds=None, error=redacted(found))
            if isinstance(found, str)
            else FormTime(form=form, seconds=found)
            for form, found in time_forms(backend, call).items()
        ]

    def profile(self, backend: Backend, config: DecoderConfig, chunk_size: int) -> Profile | None:
        """Profile one call; None for a backend that cannot be profiled. A failing profiler is recorded, not raised."""
        call = self.workload.calls(chunk_size)[0][0]
        try:
            found = profile_call(backend, config, call)
        except Exception as error:
            return Profile(chunk_size=chunk_size, error=error_text(error))
        if found is None:
            return None
        parts = [ProfilePart(**vars(part)) for part in found.parts]
        return Profile(chunk_size=chunk_size, seconds=found.seconds, parts=parts)

    def _moved(self, backend: Backend, calls: Calls, known: PassSample) -> float:
        """Largest change of the kept items' scores: reversed within their call, every other one with other tokens."""
        asked = [[with_other_neighbours(call) for call in one] for one in calls]
        found = time_pass(backend, asked, self.watchdog)
        moved = []
        for one, before, after in zip(calls, known.scores, found.scores, strict=True):
            ends = np.cumsum([len(call.items_ids) for call in one])[:-1]
            for own, turned in zip(np.split(before, ends), np.split(after, ends), strict=True):
                moved.append(np.abs(own - turned[::-1])[::2].max())
        return float(np.max(moved))  # NaN where any score is


def _too_few(fresh: PassSamples, repeat: PassSamples) -> bool:
    """Whether to ask on: where repeated queries look faster, a busy machine may be all there is to it."""
    if len(fresh) < PROBE_PASSES:
        return True
    quickest, slowest = (pick(sum(map(sum, one)) for one in passes) for pick, passes in ((min, fresh), (max, repeat)))
    return len(fresh) < MOST_PROBE_PASSES and quickest > SUSPECT_SHARE * slowest


def with_other_neighbours(call: ScoreRequest) -> ScoreRequest:
    """Items 0, 2, 4, ... as they are, the others with their tokens reversed and moved by one; then all turned round."""
    items = [
        ids if i % 2 == 0 else tuple(max(0, token - 1) for token in ids[::-1]) for i, ids in enumerate(call.items_ids)
    ]
    return dataclasses.replace(call, items_ids=tuple(items[::-1]))


def error_text(error: Exception) -> str:
    """An exception in words that may be kept."""
    return redacted("".join(traceback.format_exception_only(error)).strip()[:4000])


def _computed_tokens(backend: Backend, calls: Calls) -> int | None:
    count = getattr(backend, "computed_tokens", None)
    return None if count is None else sum(count(call) for one in calls for call in one)
