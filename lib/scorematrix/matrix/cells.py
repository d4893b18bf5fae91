"""What a round measures with a loaded backend: its cells, the probes of a tuning round, the control's two cells."""

from __future__ import annotations

import dataclasses
import traceback
from collections.abc import Callable, Sequence

import numpy as np

from scorematrix.measure import Watchdog, time_pass
from scorematrix.measure.clock import PassSample
from scorematrix.measure.memory import HostMemory
from scorematrix.measure.slowed import Slowed
from scorematrix.models.config import DecoderConfig
from scorematrix.privacy import redacted
from scorematrix.results import Cell, Probes, Profile, ProfilePart
from scorematrix.results.schema import PassSamples
from scorematrix.scoring import Backend
from scorematrix.scoring.profiles import profile_call
from scorematrix.workload import ScoreRequest, Workload

SLOWDOWN = 1.05
"""The control's known slowdown (rule 21)."""
PROBE_PASSES, MOST_PROBE_PASSES = 2, 8
SUSPECT_SHARE = 1.05
"""New queries that take so many times as long as repeated ones are asked again, before a gate calls it a cache."""
LONG_ENOUGH_NS = 2_000_000
"""Twice the millisecond that a timed window has to have: calls after the warm-up may be faster (rule 10)."""

Calls = Sequence[Sequence[ScoreRequest]]


@dataclasses.dataclass(frozen=True)
class Meter:
    """How cells are measured in this process.

    Attributes:
        compiles: tells how many programs the framework has made so far, whoever asked for them.
    """

    workload: Workload
    n_warmup: int
    n_passes: int
    watchdog: Watchdog
    memory: HostMemory
    compiles: Callable[[], int]

    def cell(self, backend: Backend, chunk_size: int, slowdown: float = 1.0) -> Cell:
        """One chunk size: warm-up, then timed passes. A call that raises makes a failed cell."""
        calls = self.workload.calls(chunk_size)
        self.memory.reset()
        try:
            warmup = [time_pass(backend, calls, self.watchdog) for _ in range(self.n_warmup)]
            repeats = _repeats(warmup)
            before, reported = self.compiles(), len(backend.compile_events)
            passes = [time_pass(backend, calls, self.watchdog, repeats) for _ in range(self.n_passes)]
            if (due := _repeats(passes)) > 2 * repeats:  # the warm-up was slower than what followed: it went on
                warmup, repeats = [*warmup, *passes], due
                passes = [time_pass(backend, calls, self.watchdog, repeats) for _ in range(self.n_passes)]
            compiles = max(self.compiles() - before, len(backend.compile_events) - reported)
        except Exception as error:
            return Cell(chunk_size=chunk_size, slowdown=slowdown, status="failed", error=error_text(error))
        return Cell(
            chunk_size=chunk_size,
            slowdown=slowdown,
            status="ok",
            warmup_ns=[sample.call_ns for sample in warmup],
            call_ns=[sample.call_ns for sample in passes],
            repeats=repeats,
            compiles_in_window=compiles,
            scores=[scores.astype(float).tolist() for scores in passes[-1].scores],
            pass_deviation=_deviation(passes),
            peak_host_bytes=self.memory.peak_bytes(),
            computed_tokens=_computed_tokens(backend, calls),
        )

    def control(self, backend: Backend, chunk_size: int, slowed_first: bool) -> list[Cell]:
        """The backend as it is, and slowed by a known share, in an order that the caller has drawn."""
        cells = [(backend, 1.0), (Slowed(backend, SLOWDOWN), SLOWDOWN)]
        return [self.cell(b, chunk_size, slowdown) for b, slowdown in (cells[::-1] if slowed_first else cells)]

    def probes(self, backend: Backend, chunk_size: int, seed: int, *, caching: bool) -> Probes:
        """The workload's items among other neighbours, and new queries in turn with the workload's own.

        All have the lengths of the workload's, so nothing new is compiled.

        Args:
            caching: whether to ask new queries, which takes a few passes.
        """
        rng = np.random.Generator(np.random.PCG64(seed))
        calls = self.workload.calls(chunk_size)
        fresh, repeat = [], []
        try:
            known = time_pass(backend, calls, self.watchdog)
            moved = self._moved(backend, calls, known)
            while caching and _too_few(fresh, repeat):
                fresh.append(time_pass(backend, with_other_queries(calls, rng), self.watchdog).call_ns)
                repeat.append(time_pass(backend, calls, self.watchdog).call_ns)
        except Exception as error:
            return Probes(chunk_size=chunk_size, error=error_text(error))
        return Probes(chunk_size=chunk_size, fresh_ns=fresh, repeat_ns=repeat, neighbours_moved=moved)

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


def _repeats(warmup: Sequence[PassSample]) -> int:
    """How often to make a call in one window, so that a window is long enough to time."""
    calls = [ns for sample in warmup[-1:] for one in sample.call_ns for ns in one]
    shortest = min(calls, default=LONG_ENOUGH_NS)
    return 1 if shortest >= LONG_ENOUGH_NS else -(-LONG_ENOUGH_NS // max(shortest, 1))


def with_other_queries(calls: Calls, rng: np.random.Generator) -> list[list[ScoreRequest]]:
    """The same calls with each request's query in another order: new to any cache, of the same tokens and length."""
    found = []
    for one in calls:
        query_ids = tuple(rng.permutation(one[0].query_ids).tolist())
        found.append([dataclasses.replace(call, query_ids=query_ids) for call in one])
    return found


def with_other_neighbours(call: ScoreRequest) -> ScoreRequest:
    """Items 0, 2, 4, ... as they are, the others with their tokens reversed and moved by one; then all turned round."""
    items = [
        ids if i % 2 == 0 else tuple(max(0, token - 1) for token in ids[::-1]) for i, ids in enumerate(call.items_ids)
    ]
    return dataclasses.replace(call, items_ids=tuple(items[::-1]))


def error_text(error: Exception) -> str:
    """An exception in words that may be kept."""
    return redacted("".join(traceback.format_exception_only(error)).strip()[:4000])


def _deviation(passes: list[PassSample]) -> float:
    """Largest absolute difference of any pass from the last; NaN where any score is NaN."""
    last = passes[-1].scores
    return float(np.max([np.abs(a - b).max() for sample in passes for a, b in zip(sample.scores, last, strict=True)]))


def _computed_tokens(backend: Backend, calls: Calls) -> int | None:
    count = getattr(backend, "computed_tokens", None)
    return None if count is None else sum(count(call) for one in calls for call in one)
