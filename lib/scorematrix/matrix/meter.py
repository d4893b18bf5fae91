"""What measures a round's cells in one process: its requests, drawn tokens, probes, forms and profile."""

from __future__ import annotations

import dataclasses
import traceback
from collections.abc import Callable, Sequence
from functools import cached_property

import numpy as np
import psutil

from scorematrix.matrix.memory import largest_call
from scorematrix.measure import PassSample, Watchdog, time_pass
from scorematrix.measure.memory import HostMemory
from scorematrix.models.config import DecoderConfig
from scorematrix.privacy import redacted
from scorematrix.results import FormTime, Probes, Profile, ProfilePart, ReferenceSample
from scorematrix.results.cells import PassSamples
from scorematrix.scoring import Backend
from scorematrix.scoring.forms import time_forms
from scorematrix.scoring.profiles import profile_call
from scorematrix.workload import ScoreRequest, Workload
from scorematrix.workload.fresh import FreshTokens, secret_seed

PROBE_PASSES, MOST_PROBE_PASSES = 2, 8
SUSPECT_SHARE = 1.05
"""If new queries take this many times as long as repeated ones, more are sent before a gate reports a cache."""
SAMPLED_ITEMS = 4
"""Items that the reference scores of each request with drawn tokens."""
Calls = Sequence[Sequence[ScoreRequest]]


@dataclasses.dataclass(frozen=True)
class Meter:
    """Measures cells in this process.

    Attributes:
        compiles: returns how many programs the framework has compiled so far, whoever requested them.
        processes: this process and its workers, and a live server's on this machine.
        touch: called before each turn of a live server, whose connection may have been closed in the meantime.
    """

    workload: Workload
    n_warmup: int
    watchdog: Watchdog
    memory: HostMemory
    compiles: Callable[[], int]
    processes: list[psutil.Process]
    touch: Callable[[], None] | None = None

    @cached_property
    def requests(self) -> list[ScoreRequest]:
        """The workload's requests."""
        return self.workload.score_requests()

    @cached_property
    def fresh(self) -> FreshTokens:
        """Source of requests like the workload's with drawn tokens."""
        return FreshTokens(self.requests)

    def drawn(self, request: ScoreRequest, seed: int, chunk_size: int) -> list[ScoreRequest]:
        """Return the calls of a request with the same lengths and new tokens; the same tokens at every chunk size."""
        return self.fresh.like(request, seed).chunks(chunk_size)

    def probes(self, backend: Backend, chunk_size: int, *, caching: bool) -> Probes:
        """Score the workload's items among other neighbours; time drawn requests in turn with the workload's.

        All lengths are the workload's, so nothing new is compiled.

        Args:
            caching: whether to time drawn requests, which takes a few passes.
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
            index: of the confirmation rounds that will score all items of the request.
        """
        request, seed = index % len(self.requests), secret_seed()
        drawn = self.fresh.like(self.requests[request], seed)
        n_items = len(drawn.items_ids)
        items = sorted(np.random.default_rng(seed).permutation(n_items)[:SAMPLED_ITEMS].tolist())
        sampled = dataclasses.replace(drawn, items_ids=tuple(drawn.items_ids[i] for i in items))
        (scores,) = time_pass(backend, [[sampled]], self.watchdog).scores
        return ReferenceSample(
            index=index, request=request, seed=seed, items=items, scores=scores.astype(float).tolist()
        )

    def forms(self, backend: Backend, chunk_size: int) -> list[FormTime]:
        """Time every form of attention that the engine has, on the call with the most tokens."""
        call = self.fresh.like(largest_call(self.workload, chunk_size), secret_seed())
        return [
            FormTime(form=form, seconds=None, error=redacted(outcome))
            if isinstance(outcome, str)
            else FormTime(form=form, seconds=outcome)
            for form, outcome in time_forms(backend, call).items()
        ]

    def profile(self, backend: Backend, config: DecoderConfig, chunk_size: int) -> Profile | None:
        """Profile one call; None for a backend without a profiler. Record a profiler's error instead of raising it."""
        call = self.workload.calls(chunk_size)[0][0]
        try:
            profiled = profile_call(backend, config, call)
        except Exception as error:
            return Profile(chunk_size=chunk_size, error=error_text(error))
        if profiled is None:
            return None
        parts = [ProfilePart(**vars(part)) for part in profiled.parts]
        return Profile(chunk_size=chunk_size, seconds=profiled.seconds, parts=parts)

    def _moved(self, backend: Backend, calls: Calls, known: PassSample) -> float:
        """Return the largest score change of kept items when calls are reversed and every other item is altered."""
        altered = [[with_other_neighbours(call) for call in one] for one in calls]
        rescored = time_pass(backend, altered, self.watchdog)
        moved = []
        for one, before, after in zip(calls, known.scores, rescored.scores, strict=True):
            ends = np.cumsum([len(call.items_ids) for call in one])[:-1]
            for original, changed in zip(np.split(before, ends), np.split(after, ends), strict=True):
                moved.append(np.abs(original - changed[::-1])[::2].max())
        return float(np.max(moved))  # NaN where any score is


def _too_few(fresh: PassSamples, repeat: PassSamples) -> bool:
    """Return whether to probe further: if repeated queries look faster, a busy machine may be the cause."""
    if len(fresh) < PROBE_PASSES:
        return True
    quickest, slowest = (pick(sum(map(sum, one)) for one in passes) for pick, passes in ((min, fresh), (max, repeat)))
    return len(fresh) < MOST_PROBE_PASSES and quickest > SUSPECT_SHARE * slowest


def with_other_neighbours(call: ScoreRequest) -> ScoreRequest:
    """Reverse the order of items; items 1, 3, 5, ... also get their tokens reversed and lowered by one."""
    items = [
        ids if i % 2 == 0 else tuple(max(0, token - 1) for token in ids[::-1]) for i, ids in enumerate(call.items_ids)
    ]
    return dataclasses.replace(call, items_ids=tuple(items[::-1]))


def error_text(error: Exception) -> str:
    """Return an exception's text, shortened and redacted."""
    return redacted("".join(traceback.format_exception_only(error)).strip()[:4000])
