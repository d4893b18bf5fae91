"""What a run shows of its own instrument: a backend against itself, and against itself slowed by a known share (21)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

from scorematrix.compare.pairs import pair_ratios
from scorematrix.compare.schema import Control, Effect, Gate
from scorematrix.compare.statistics import MIN_ROUNDS, Interval, geometric_interval
from scorematrix.results.audits import GateStatus
from scorematrix.results.cells import Cell
from scorematrix.results.manifest import Manifest
from scorematrix.results.schema import Round

ItselfVerdict = Literal["tie", "difference", "undecided", "not_run"]
SlowedVerdict = Literal["found", "missed", "undecided", "not_run"]
ITSELF_STATUS: dict[ItselfVerdict, GateStatus] = {"tie": "passed", "difference": "failed", "undecided": "undecided"}
SLOWED_STATUS: dict[SlowedVerdict, GateStatus] = {"found": "passed", "missed": "failed", "undecided": "undecided"}


@dataclass(frozen=True)
class ControlEvidence:
    """The control rounds of one target, paired by index with the confirmation rounds of the same backend and view."""

    backend: str
    view: str
    target: str
    rounds: tuple[Round, ...]
    twins: tuple[Round, ...]

    @cached_property
    def slowed_cell(self) -> Cell | None:
        """The first cell that was made slower; names chunk size and slowdown."""
        return next((c for r in self.rounds for c in r.cells if c.slowdown > 1), None)

    def ratios(self, slowdown: float) -> dict[int, float]:
        """Control seconds over the twin's, by index; 1.0: the backend against itself."""
        if self.slowed_cell is None:
            return {}
        chunk = self.slowed_cell.chunk_size
        pairs = pair_ratios(self.rounds, chunk, self.twins, chunk, slowdown)
        return {index: pair.ratio for index, pair in pairs.items()}


def gather_controls(manifest: Manifest, rounds: Sequence[Round]) -> list[ControlEvidence]:
    """The controls that a run planned, recorded or not."""
    planned = dict.fromkeys((p.backend, p.view, p.target) for p in manifest.plan if p.role == "control")
    return [
        ControlEvidence(
            *key,
            rounds=tuple(r for r in rounds if r.role == "control" and (r.backend, r.view, r.target) == key),
            twins=tuple(r for r in rounds if r.role == "confirm" and (r.backend, r.view, r.target) == key),
        )
        for key in planned
    ]


def judge_control(
    evidence: ControlEvidence, indices: range, confidence: float, margin: float, complete: bool
) -> Control:
    """A control at one look.

    Args:
        indices: the round indices of the look.
        complete: whether its planned rounds are all recorded; asked after each one, chance would void too many runs.
        margin: the smallest difference that counts, as a fraction; widened to twice the half-width of the backend
            against itself (rule 23).
    """
    slow = evidence.slowed_cell
    itself = _interval(evidence.ratios(1.0), indices, confidence)
    slowed = _interval(evidence.ratios(slow.slowdown), indices, confidence) if slow else None
    widened = margin if itself is None else max(margin, math.expm1(2 * _half(itself)))
    may_fail = complete and len(indices) >= MIN_ROUNDS
    return Control(
        backend=evidence.backend,
        view=evidence.view,
        target=evidence.target,
        chunk_size=slow.chunk_size if slow else None,
        slowdown=slow.slowdown if slow else None,
        itself=Effect.of(itself),
        itself_verdict=_itself(itself, margin, widened, may_fail),
        slowed=Effect.of(slowed),
        slowed_verdict=_slowed(slowed, slow.slowdown if slow else 1.0, may_fail),
        margin=widened,
    )


def control_gates(control: Control) -> tuple[Gate, Gate]:
    """The gate that any verdict must pass, and the one that a tie must pass too."""
    where = f"{control.backend} {control.view} on {control.target}"
    waiting = f"fewer than two control rounds of {where} have a figure beside their twin"
    status = ITSELF_STATUS.get(control.itself_verdict, "not_run")
    words = {"tie": "no difference", "difference": "a difference where none is", "undecided": "undecided"}
    detail = f"{where} against itself: {words.get(control.itself_verdict, '')} {_words(control.itself)}"
    itself = Gate(name=f"A/A control {control.target}", status=status, detail=detail if control.itself else waiting)
    share = f"{control.slowdown - 1:.0%}" if control.slowdown else "slowdown"
    status = SLOWED_STATUS.get(control.slowed_verdict, "not_run")
    detail = f"{where} slowed by {share}: {control.slowed_verdict} {_words(control.slowed)}"
    slowed = Gate(name=f"{share} control {control.target}", status=status, detail=detail if control.slowed else waiting)
    return itself, slowed


def _interval(ratios: dict[int, float], indices: range, confidence: float) -> Interval | None:
    values = [ratio for index, ratio in ratios.items() if index in indices]
    return geometric_interval(values, confidence) if len(values) > 1 else None


def _half(interval: Interval) -> float:
    return (math.log(interval.high) - math.log(interval.low)) / 2


def _itself(interval: Interval | None, margin: float, widened: float, may_fail: bool) -> ItselfVerdict:
    """A difference counts against the margin that was fixed; no difference is shown within the widened one."""
    if interval is None:
        return "not_run"
    low, high = math.log(interval.low), math.log(interval.high)
    if low > math.log1p(margin) or high < -math.log1p(margin):
        return "difference" if may_fail else "undecided"
    return "tie" if -math.log1p(widened) < low and high < math.log1p(widened) else "undecided"


def _slowed(interval: Interval | None, slowdown: float, may_fail: bool) -> SlowedVerdict:
    """Found: surely slower, and by no more than twice what it was slowed by."""
    if interval is None:
        return "not_run"
    low, high, known = math.log(interval.low), math.log(interval.high), math.log(slowdown)
    if high < known / 2 or low > 2 * known:
        return "missed" if may_fail else "undecided"
    return "found" if low > 0 else "undecided"


def _words(effect: Effect | None) -> str:
    return f"({effect.ratio:.3f}, {effect.low:.3f} to {effect.high:.3f}, {effect.n_rounds} rounds)" if effect else ""
