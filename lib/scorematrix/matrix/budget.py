"""How much of a run's time budget a group of rounds may take for its turns."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from scorematrix.matrix.params import Params
from scorematrix.results import PlannedRound, Round

Kind = tuple[bool, str]
"""Whether it tunes, and the view."""
STARTING_SECONDS = 15.0
"""What a group takes beside its turns, until one has told."""


class Budget:
    """Shares what is left among the groups that are left, alike, once what they take beside their turns is taken off.

    Groups beyond those of `rounds`, which a run adds until it is decided, get the last share again.
    """

    def __init__(
        self,
        params: Params,
        groups: Sequence[Sequence[PlannedRound]],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._clock = clock
        self._left = [_kind(group) for group in groups if group[0].index < params.tuning_rounds + params.rounds]
        self._end = None if params.time_budget_seconds is None else clock() + params.time_budget_seconds
        self._starts: dict[Kind, list[float]] = {}
        self._share: float | None = None

    def share(self) -> float | None:
        """Seconds for the turns of the next group; None: there is no budget."""
        if self._end is None:
            return None
        if self._left:
            starts = sum(self._start(kind) for kind in self._left)
            self._share = max(0.0, self._end - self._clock() - starts) / len(self._left)
        return self._share

    def took(self, group: Sequence[PlannedRound], rounds: Sequence[Round], seconds: float) -> None:
        """A group is measured, in so many seconds; or it was before, in none."""
        kind = _kind(group)
        if kind in self._left:
            self._left.remove(kind)
        turns = [turn for r in rounds for cell in r.cells for turn in cell.turns]
        end_ns = max(((turn.start_ns or 0) + (turn.conductor_ns or 0) for turn in turns), default=0)
        if seconds and turns:
            self._starts.setdefault(kind, []).append(seconds - end_ns / 1e9)

    def _start(self, kind: Kind) -> float:
        """What a group of a kind takes beside its turns, by those like it, else by all that are known."""
        like = [own for (_, view), seconds in self._starts.items() if view == kind[1] for own in seconds]
        known = self._starts.get(kind) or like or [own for seconds in self._starts.values() for own in seconds]
        return min(known[-3:], default=STARTING_SECONDS)


def _kind(group: Sequence[PlannedRound]) -> Kind:
    return group[0].role == "tuning", group[-1].view
