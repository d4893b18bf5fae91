"""Share a run's time budget among its groups of rounds."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from statistics import median

from scorematrix.matrix.params import Params
from scorematrix.results import PlannedRound, Round

Kind = tuple[bool, str]
"""Whether the group tunes, and its view."""
STARTING_SECONDS = 15.0
"""Assumed overhead of a group (all its time outside turns) until one has been measured."""


class Budget:
    """Shares the remaining time, minus the expected overhead, among the remaining groups.

    All cells that verdicts need get the same share; cells of tuning rounds, which only choose, get half of it. Groups
    beyond those of `rounds`, which a run adds until it is decided, get as much as the last similar group.
    """

    def __init__(
        self,
        params: Params,
        groups: Sequence[Sequence[PlannedRound]],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._clock = clock
        planned = [group for group in groups if group[0].index < params.tuning_rounds + params.rounds]
        self._left = [(_kind(group), _weight(group)) for group in planned]
        self._end = None if params.time_budget_seconds is None else clock() + params.time_budget_seconds
        self._starts: dict[Kind, list[float]] = {}
        self._guesses: dict[Kind, float] = {}
        self._unit = 0.0

    def share(self, group: Sequence[PlannedRound]) -> float | None:
        """Return the seconds for a group's turns; None without a budget."""
        if self._end is None:
            return None
        if self._left:
            starts = sum(self._start(kind) for kind, _ in self._left)
            self._unit = max(0.0, self._end - self._clock() - starts) / sum(weight for _, weight in self._left)
        return self._unit * _weight(group)

    def took(self, group: Sequence[PlannedRound], rounds: Sequence[Round], seconds: float) -> None:
        """Record that a group took `seconds`; 0 if it was measured before."""
        kind = _kind(group)
        if (one := (kind, _weight(group))) in self._left:
            self._left.remove(one)
        turns = [turn for r in rounds for cell in r.cells for turn in cell.turns]
        end_ns = max(((turn.start_ns or 0) + (turn.conductor_ns or 0) for turn in turns), default=0)
        if seconds and turns:
            self._starts.setdefault(kind, []).append(seconds - end_ns / 1e9)
        if kind[0]:
            self._guesses[False, kind[1]] = _loading_seconds(rounds)

    def _start(self, kind: Kind) -> float:
        """Estimate a group's overhead from recent groups of its kind, else from tuning, else from any group."""
        if measured := self._starts.get(kind):
            return median(measured[-3:])
        known = [seconds for others in self._starts.values() for seconds in others]
        return self._guesses.get(kind, min(known, default=STARTING_SECONDS))


def _loading_seconds(rounds: Sequence[Round]) -> float:
    """Return the seconds that all backends together took to load and prepare.

    This excludes new compilations, because the next process loads the programs from the cache.
    """
    longest: dict[str, float] = {}
    for r in rounds:
        if setup := r.setup:
            anew = sum(made.trace_seconds + made.compile_seconds for made in setup.compiles if not made.from_cache)
            prepare = max(0.0, setup.prepare_seconds - anew)
            seconds = setup.load_model_seconds + setup.load_backend_seconds + prepare
            longest[r.backend] = max(longest.get(r.backend, 0.0), seconds)
    return sum(longest.values())


def _kind(group: Sequence[PlannedRound]) -> Kind:
    return group[0].role == "tuning", group[-1].view


def _weight(group: Sequence[PlannedRound]) -> float:
    """Return the approximate number of cells that take turns. A control has two; tuning counts half."""
    cells = sum(2 if planned.role == "control" else 1 for planned in group)
    return cells / 2 if group[0].role == "tuning" else cells
