"""Scorers that cheat, and machines that favour one side: see `test_whole_runs.py`."""

from __future__ import annotations

import gc
from collections.abc import Callable
from functools import lru_cache
from typing import Any

import numpy as np

from scorematrix.compare.numerics import caps_for
from scorematrix.scoring import Scores
from scorematrix.workload import ScoreRequest
from tests.faults.whole_run import CALL_SECONDS, Machine, Scorer, truth, workload

CONFIRMED = ("confirm", "control")
ALLOWED = caps_for("float32", on_cpu=True).max


class Faster(Scorer):
    """Takes 60 % of the honest time. Alone: an engine with a fast path for exactly this benchmark."""

    def due(self, request: ScoreRequest) -> float:
        return super().due(request) * 0.6


class Watched(Scorer):
    """Takes 60 % of the honest time if the garbage collector is off, because then it is being timed."""

    def due(self, request: ScoreRequest) -> float:
        return super().due(request) * (1 if gc.isenabled() else 0.6)


# Caches.


class CacheOfOne(Scorer):
    """Has `lru_cache(maxsize=1)` around `score`."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.score = lru_cache(maxsize=1)(super().score)


class Caching(Scorer):
    """Answers a cached request in 30 % of the time.

    Attributes:
        roles: the roles of rounds in which it uses its cache.
    """

    roles: tuple[str, ...] = ("tuning", *CONFIRMED)

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.cached: set[Any] = set()

    def key(self, request: ScoreRequest) -> Any:
        return request

    def score(self, request: ScoreRequest) -> Scores:
        scores = super().score(request)
        self.cached.add(self.key(request))
        return scores

    def due(self, request: ScoreRequest) -> float:
        is_cached = self.key(request) in self.cached and self.planned.role in self.roles
        return super().due(request) * (0.3 if is_cached else 1)


class CachingPrepared(Caching):
    """Caches only the requests that `prepare` received."""

    def prepare(self, requests: list[ScoreRequest]) -> None:
        self.cached |= set(requests)

    def score(self, request: ScoreRequest) -> Scores:
        return Scorer.score(self, request)


class CachingInConfirmation(Caching):
    """Is honest in tuning rounds, where the caching probe runs."""

    roles = CONFIRMED


class CachingSorted(CachingInConfirmation):
    """Ignores the order of the query's tokens, and the items."""

    def key(self, request: ScoreRequest) -> Any:
        return tuple(sorted(request.query_ids)), len(request.items_ids)


class CachingInOneRound(Caching):
    """Uses its cache in one confirmation round of five."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.roles = ("confirm",) if self.planned.index == 3 else ()


class CachingFromSeed(Caching):
    """Computes in advance all permuted queries that a probe could derive from the params' seed."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        rng = np.random.Generator(np.random.PCG64(self.params.seed))
        for _ in range(16):
            self.cached |= {tuple(rng.permutation(r.query_ids).tolist()) for r in workload().requests}

    def key(self, request: ScoreRequest) -> Any:
        return request.query_ids


class PrefixCache(Scorer):
    """Keeps the keys and values of queries between calls without declaring it."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._cached: set[tuple[int, ...]] = set()

    def score(self, request: ScoreRequest) -> Scores:
        scores = super().score(request)
        self._cached.add(request.query_ids)
        return scores

    def due(self, request: ScoreRequest) -> float:
        saved = CALL_SECONDS * self.speed * 0.3 if request.query_ids in self._cached else 0.0
        return super().due(request) - saved


# Clocks.


class WrongClock(Scorer):
    """Has clocks that run at other rates during its calls.

    Attributes:
        rates: of the clock that figures are taken from, and of the raw clock.
    """

    rates = (1.0, 1.0)

    def score(self, request: ScoreRequest) -> Scores:
        self.machine.rate = self.rates
        try:
            return super().score(request)
        finally:
            self.machine.rate = (1.0, 1.0)


class SlowClock(WrongClock):
    """The clock that figures are taken from runs at a tenth of its rate."""

    rates = (0.1, 1.0)


class SlowClocks(WrongClock):
    """Both clocks run at a tenth of their rate."""

    rates = (0.1, 0.1)


class FastClocks(WrongClock):
    """Both clocks run 1.5 times as fast."""

    rates = (1.5, 1.5)


class SetBackClock(Scorer):
    """Sets its clock back by 35 % of each call in confirmation rounds."""

    def score(self, request: ScoreRequest) -> Scores:
        scores = super().score(request)
        if self.planned.role in CONFIRMED:
            self.machine.set_back(0.35 * self.due(request))
        return scores


# Work that the clock does not see.


class Lazy(Scorer):
    """Returns an array subclass that computes half of the items on access."""

    class Array(np.ndarray):
        """The subclass."""

    def score(self, request: ScoreRequest) -> Scores:
        self.machine.work(self.due(request) / 2)
        return truth(request).view(self.Array)


class Unfinished(Scorer):
    """Returns after 60 % of the work and does the rest once its clock has stopped."""

    def score(self, request: ScoreRequest) -> Scores:
        self.machine.work(self.due(request) * 0.6)
        self.machine.owed = self.due(request) * 0.4
        return truth(request)


class ExtraThreads(Scorer):
    """Computes on two cores in confirmation rounds, and its record says one."""

    def score(self, request: ScoreRequest) -> Scores:
        n_cores = 2 if self.planned.role in CONFIRMED else 1
        self.machine.work(self.due(request) / n_cores, n_cores)
        return truth(request)


class DetachedProcess(Scorer):
    """Leaves half of the work to a process that is not its child."""

    def score(self, request: ScoreRequest) -> Scores:
        self.machine.work(self.due(request) / 2)
        self.machine.others_seconds += self.due(request) / 2
        return truth(request)


class Constant(Scorer):
    """Takes the same short time for every call."""

    def due(self, request: ScoreRequest) -> float:
        return CALL_SECONDS * 0.5


class Throttled(Scorer):
    """Starts at 60 % of the honest time and slows down with every call."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._n_calls = 0

    def due(self, request: ScoreRequest) -> float:
        self._n_calls += 1
        return super().due(request) * (0.6 + 0.02 * self._n_calls)


class Recompiling(Faster):
    """Recompiles in every timed call and does not report it."""

    def score(self, request: ScoreRequest) -> Scores:
        self.machine.n_compiles += 1
        return super().score(request)


class HonestInControls(Faster):
    """Takes the honest time in control rounds only."""

    def due(self, request: ScoreRequest) -> float:
        return Scorer.due(self, request) if self.planned.role == "control" else super().due(request)


# Wrong scores.


class ShortQuery(Faster):
    """Drops the query's first four tokens in confirmation rounds."""

    def score(self, request: ScoreRequest) -> Scores:
        if self.planned.role not in CONFIRMED:
            return super().score(request)
        self.machine.work(self.due(request))
        return truth(ScoreRequest(request.query_ids[4:], request.items_ids, request.label_ids))


class SkippedItems(Faster):
    """Copies every third item's score from the item before it."""

    def score(self, request: ScoreRequest) -> Scores:
        scores = super().score(request)
        scores[2::3] = scores[1:-1:3]
        return scores


class WorkloadOnly(Faster):
    """Scores the workload correctly, and answers all other requests with one of its scores."""

    def score(self, request: ScoreRequest) -> Scores:
        known = [r for calls in workload().calls(len(request.items_ids)) for r in calls]
        return super().score(request if request in known else known[0])


class OneCallBehind(Faster):
    """Returns the scores of the previous call."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._previous: Scores | None = None

    def score(self, request: ScoreRequest) -> Scores:
        previous, self._previous = self._previous, super().score(request)
        return previous if previous is not None and len(previous) == len(self._previous) else self._previous


class Raising(Faster):
    """Raises for one of the two queries."""

    def score(self, request: ScoreRequest) -> Scores:
        if request.query_ids == tuple(workload().requests[1].query_ids):
            raise RuntimeError("too slow")
        return super().score(request)


def answering(make: Callable[[], Callable[[Scorer, ScoreRequest], Scores]]) -> type[Faster]:
    """Return a scorer that answers like a lie of `test_search.py`: `make` gives each process its own state.

    The class counts its wrong timed answers in `n_wrong`.
    """

    class Lying(Faster):
        n_wrong = 0

        def __init__(self, *arguments: Any) -> None:
            super().__init__(*arguments)
            self._answer, self._sound = make(), Faster(*arguments)

        def score(self, request: ScoreRequest) -> Scores:
            scores = self._answer(self._sound, request)
            if self.machine.order == "turn" and not np.allclose(scores, truth(request), rtol=0, atol=ALLOWED):
                Lying.n_wrong += 1
            return scores

    return Lying


# What happens on the machine during a turn: extra seconds, and processor seconds of other processes.


def busy_child(machine: Machine, seconds: float) -> tuple[float, float]:
    """PyTorch's child process takes half a core during JAX's turns."""
    return (0.5 * seconds, 0.5 * seconds) if machine.turn_of.backend == "jax" else (0.0, 0.0)


def works_ahead(machine: Machine, seconds: float) -> tuple[float, float]:
    """PyTorch computes on another core during JAX's turns, so its turns are shorter."""
    return (0.0, 0.3 * seconds) if machine.turn_of.backend == "jax" else (-0.4 * seconds, 0.0)


def disturbed_tuning(machine: Machine, seconds: float) -> tuple[float, float]:
    """JAX's large calls take twice as long in the tuning round, so it chooses the smaller chunk size."""
    is_slowed = (machine.turn_of.role, machine.turn_of.backend) == ("tuning", "jax") and seconds > 0.9 * CALL_SECONDS
    return (seconds if is_slowed else 0.0), 0.0


def hidden_handicap(machine: Machine, seconds: float) -> tuple[float, float]:
    """JAX's process waits half as long again in each call. No other process runs."""
    return (0.5 * seconds if machine.turn_of.backend == "jax" else 0.0), 0.0


def slowing_down(machine: Machine, seconds: float) -> tuple[float, float]:
    """The machine slows down from index to index."""
    return seconds * 0.05 * machine.turn_of.index, 0.0


def second_is_slow(machine: Machine, seconds: float) -> tuple[float, float]:
    """Every second turn is slower."""
    return (0.3 * seconds if machine.n_turns % 2 else 0.0), 0.0
