"""Scorers that take a false advantage, and machines that give one: see `test_whole_runs.py`."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np

from scorematrix.scoring import Scores
from scorematrix.workload import ScoreRequest
from tests.faults.whole_run import CALL_SECONDS, Machine, Scorer, truth, workload

CONFIRMED = ("confirm", "control")


class OneRemembered(Scorer):
    """The last answer is kept, as people write it every day."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.score = lru_cache(maxsize=1)(super().score)


class LateArray(np.ndarray):
    """Computes when it is read."""


class Late(Scorer):
    """Half of the items are computed when the answer is read."""

    def score(self, request: ScoreRequest) -> Scores:
        self.machine.work(self.due(request) / 2)
        return truth(request).view(LateArray)


class Remembering(Scorer):
    """What was asked once costs nothing any more; by a key of the request."""

    roles: tuple[str, ...] = ("tuning", *CONFIRMED)

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.known: set[Any] = set()

    def key(self, request: ScoreRequest) -> Any:
        return request

    def score(self, request: ScoreRequest) -> Scores:
        is_known = self.key(request) in self.known and self.planned.role in self.roles
        self.machine.work(self.due(request) * (0.3 if is_known else 1))
        self.known.add(self.key(request))
        return truth(request)


class Prepared(Remembering):
    """`prepare` answers all that it is given beforehand."""

    def prepare(self, requests: list[ScoreRequest]) -> None:
        self.known |= {self.key(request) for request in requests}

    def score(self, request: ScoreRequest) -> Scores:
        self.machine.work(self.due(request) * (0.3 if request in self.known else 1))
        return truth(request)


class RememberingInConfirmation(Remembering):
    """No probe sees it: those are asked in tuning rounds."""

    roles = CONFIRMED


class RememberingSorted(RememberingInConfirmation):
    """New queries that are old ones in another order are known."""

    def key(self, request: ScoreRequest) -> Any:
        return tuple(sorted(request.query_ids)), len(request.items_ids)


class KnowingTheSeed(Remembering):
    """Queries that a probe could draw from the params' seed are computed beforehand."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        rng = np.random.Generator(np.random.PCG64(self.params.seed))
        for _ in range(16):
            self.known |= {tuple(rng.permutation(r.query_ids).tolist()) for r in workload().requests}

    def key(self, request: ScoreRequest) -> Any:
        return request.query_ids


class KeepingQueries(Scorer):
    """Keys and values of queries that were asked before are kept, and nobody is told."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._kept: set[tuple[int, ...]] = set()

    def score(self, request: ScoreRequest) -> Scores:
        is_kept = request.query_ids in self._kept
        self.machine.work(self.due(request) - is_kept * CALL_SECONDS * self.speed * 0.3)
        self._kept.add(request.query_ids)
        return truth(request)


class HonestInControls(Scorer):
    """It knows a control round when it sees one, and takes its advantage in all others."""

    def due(self, request: ScoreRequest) -> float:
        return super().due(request) * (1 if self.planned.role == "control" else 0.6)


class Lucky(RememberingInConfirmation):
    """In one round of five."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.roles = ("confirm",) if self.planned.index == 3 else ()


class Clock(Scorer):
    """The clocks of its process run at other rates, that of its figures and the raw one."""

    rates = (1.0, 1.0)

    def score(self, request: ScoreRequest) -> Scores:
        self.machine.rate = self.rates
        try:
            return super().score(request)
        finally:
            self.machine.rate = (1.0, 1.0)


class SlowClock(Clock):
    """That of its figures runs at a tenth."""

    rates = (0.1, 1.0)


class SlowClocks(Clock):
    """Both run at a tenth."""

    rates = (0.1, 0.1)


class FastClock(Clock):
    """JAX's clocks run fast."""

    rates = (1.5, 1.5)


class SetBack(Scorer):
    """Its clock is set back by a third of a call, in confirmation rounds only."""

    def score(self, request: ScoreRequest) -> Scores:
        found = super().score(request)
        if self.planned.role in CONFIRMED:
            self.machine.set_back(0.35 * self.due(request))
        return found


class ManyThreads(Scorer):
    """Two cores, one on record; in confirmation rounds only."""

    def score(self, request: ScoreRequest) -> Scores:
        share = 0.5 if self.planned.role in CONFIRMED else 1.0
        self.machine.work(self.due(request) * share, cores=1 / share)
        return truth(request)


class Elsewhere(Scorer):
    """A process that is nobody's child does half of the work at the same time."""

    def score(self, request: ScoreRequest) -> Scores:
        self.machine.work(self.due(request) / 2)
        self.machine.others_seconds += self.due(request) / 2
        return truth(request)


class Unfinished(Scorer):
    """It answers after 0.6 of its work; the rest falls into the time after the clock was stopped."""

    def score(self, request: ScoreRequest) -> Scores:
        self.machine.work(self.due(request) * 0.6)
        self.machine.owed = self.due(request) * 0.4
        return truth(request)


class Constant(Scorer):
    """A call takes the time of the smallest, whatever is asked."""

    def due(self, request: ScoreRequest) -> float:
        return CALL_SECONDS * 0.5


class Slowing(Scorer):
    """A burst that a longer run would not see: it is fast first, and slows down."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._n = 0

    def due(self, request: ScoreRequest) -> float:
        self._n += 1
        return super().due(request) * (0.6 + 0.02 * self._n)


class Recompiling(Scorer):
    """It makes a faster program while it is timed, and says nothing of it."""

    def score(self, request: ScoreRequest) -> Scores:
        self.machine.n_compiles += 1
        self.machine.work(self.due(request) * 0.6)
        return truth(request)


class ShortQuery(Scorer):
    """The query is cut, in confirmation rounds only."""

    def score(self, request: ScoreRequest) -> Scores:
        if self.planned.role not in CONFIRMED:
            return super().score(request)
        self.machine.work(self.due(request) * 0.6)
        return truth(ScoreRequest(request.query_ids[4:], request.items_ids, request.label_ids))


class FewItems(Scorer):
    """Every third item gets the score of the one before it."""

    def score(self, request: ScoreRequest) -> Scores:
        self.machine.work(self.due(request) * 0.6)
        scores = truth(request)
        scores[2::3] = scores[1:-1:3]
        return scores


class Stale(Scorer):
    """Right for the workload; for all else as quick, the answer to something that it knows."""

    def score(self, request: ScoreRequest) -> Scores:
        self.machine.work(self.due(request) * 0.6)
        known = [r for calls in workload().calls(len(request.items_ids)) for r in calls]
        return truth(request if request in known else known[0])


class Previous(Scorer):
    """A pipeline that is one call behind: it answers what was asked before."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._last: Scores | None = None

    def score(self, request: ScoreRequest) -> Scores:
        self.machine.work(self.due(request) * 0.6)
        last, self._last = self._last, truth(request)
        return last if last is not None and len(last) == len(self._last) else self._last


class GivesUp(Scorer):
    """Raises where it would be slow."""

    def score(self, request: ScoreRequest) -> Scores:
        if request.query_ids == tuple(workload().requests[1].query_ids):
            raise RuntimeError("too long")
        self.machine.work(self.due(request) * 0.6)
        return truth(request)


class Recognising(Scorer):
    """It knows the benchmark by its shapes, and draws on what nobody else gets: no measurement tells."""

    def due(self, request: ScoreRequest) -> float:
        return super().due(request) * 0.6


def busy_child(machine: Machine, seconds: float) -> tuple[float, float]:
    """PyTorch's child takes half a core while JAX measures."""
    return (0.5 * seconds, 0.5 * seconds) if machine.turn_of.backend == "jax" else (0.0, 0.0)


def works_ahead(machine: Machine, seconds: float) -> tuple[float, float]:
    """PyTorch works in JAX's turns, on a core of its own, and so has less to do in its own ones."""
    return (0.0, 0.3 * seconds) if machine.turn_of.backend == "jax" else (-0.4 * seconds, 0.0)


def disturbed_tuning(machine: Machine, seconds: float) -> tuple[float, float]:
    """In the tuning round JAX's large calls are held up, so it is measured at its smaller chunk size."""
    is_held_up = (machine.turn_of.role, machine.turn_of.backend) == ("tuning", "jax") and seconds > 0.9 * CALL_SECONDS
    return (seconds if is_held_up else 0.0), 0.0


def held_up_within(machine: Machine, seconds: float) -> tuple[float, float]:
    """JAX's process waits for something in itself, and nobody else works."""
    return (0.5 * seconds if machine.turn_of.backend == "jax" else 0.0), 0.0


def slowing_down(machine: Machine, seconds: float) -> tuple[float, float]:
    """Every round is slower than the one before it."""
    return seconds * 0.05 * machine.turn_of.index, 0.0


def second_is_slow(machine: Machine, seconds: float) -> tuple[float, float]:
    """Every second turn is slowed."""
    return (0.3 * seconds if machine.n_turns % 2 else 0.0), 0.0
