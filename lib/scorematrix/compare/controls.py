"""Judge the controls: each side against itself, unchanged and slowed by a known share (rule 21)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from scorematrix.compare.pairs import pair_ratios
from scorematrix.compare.schema import Control, Effect, Gate, ItselfVerdict, SlowedVerdict
from scorematrix.compare.statistics import FAILING, MIN_ROUNDS, Interval, geometric_interval
from scorematrix.results.audits import GateStatus
from scorematrix.results.cells import Cell
from scorematrix.results.schema import Manifest, Round

ITSELF_STATUS: dict[ItselfVerdict, GateStatus] = {"tie": "passed", "difference": "failed", "undecided": "undecided"}
SLOWED_STATUS: dict[SlowedVerdict, GateStatus] = {"found": "passed", "missed": "failed", "undecided": "undecided"}


@dataclass(frozen=True)
class ControlEvidence:
    """The control rounds of one view on one target. Each repeats the confirmation round of its index and backend.

    Attributes:
        backends: the sides, which alternate from index to index.
        twins: the confirmation rounds of all sides.
    """

    backends: tuple[str, ...]
    view: str
    target: str
    rounds: tuple[Round, ...]
    twins: tuple[Round, ...]

    @cached_property
    def slowed_cell(self) -> Cell | None:
        """The first slowed cell; it gives the chunk size and slowdown."""
        return next((c for r in self.rounds for c in r.cells if c.slowdown > 1), None)

    def ratios(self, slowdown: float) -> dict[int, float]:
        """Return control time over the repeated round's time, by index. Slowdown 1.0: unchanged."""
        by_index: dict[int, float] = {}
        for backend in self.backends:
            controls, twins = ([r for r in rounds if r.backend == backend] for rounds in (self.rounds, self.twins))
            chunk = next((c.chunk_size for r in controls for c in r.cells if c.slowdown > 1), None)
            if chunk is not None:
                pairs = pair_ratios(controls, chunk, twins, chunk, slowdown)
                by_index |= {index: pair.ratio for index, pair in pairs.items()}
        return dict(sorted(by_index.items()))


def gather_controls(manifest: Manifest, rounds: Sequence[Round]) -> list[ControlEvidence]:
    """Return the controls that a run planned, recorded or not."""
    planned: dict[tuple[str, str], dict[str, None]] = {}
    for p in manifest.plan:
        if p.role == "control":
            planned.setdefault((p.view, p.target), {})[p.backend] = None
    return [
        ControlEvidence(
            tuple(sorted(backends)),
            view,
            target,
            rounds=tuple(r for r in rounds if r.role == "control" and (r.view, r.target) == (view, target)),
            twins=tuple(r for r in rounds if r.role == "confirm" and (r.view, r.target) == (view, target)),
        )
        for (view, target), backends in planned.items()
    ]


def judge_control(
    evidence: ControlEvidence, indices: range, confidence: float, margin: float, complete: bool
) -> Control:
    """Judge a control at one look.

    Args:
        indices: the round indices of the look.
        complete: whether all its planned rounds are recorded. Only then may it fail: a check after every round would
            void too many runs by chance.
        margin: the smallest difference that counts, as a fraction. It is widened to the largest bias that the A/A
            interval allows (rule 23).
    """
    slow, surely = evidence.slowed_cell, 1 - (1 - confidence) * FAILING
    unchanged, slower = evidence.ratios(1.0), evidence.ratios(slow.slowdown) if slow else {}
    itself, itself_surely = _interval(unchanged, indices, confidence), _interval(unchanged, indices, surely)
    slowed, slowed_surely = _interval(slower, indices, confidence), _interval(slower, indices, surely)
    widened = margin if itself is None else max(margin, 1 / itself.low - 1, itself.high - 1)
    may_fail = complete and len(indices) >= MIN_ROUNDS
    return Control(
        backend=" and ".join(evidence.backends),
        view=evidence.view,
        target=evidence.target,
        chunk_size=slow.chunk_size if slow else None,
        slowdown=slow.slowdown if slow else None,
        itself=Effect.of(itself),
        itself_verdict=_itself(itself, itself_surely if may_fail else None, margin),
        slowed=Effect.of(slowed),
        slowed_verdict=_slowed(slowed, slowed_surely if may_fail else None, slow.slowdown if slow else 1.0),
        margin=widened,
    )


def control_gates(control: Control) -> tuple[Gate, Gate]:
    """Return the gate that every verdict must pass, and the extra gate that a tie must pass."""
    where = f"{control.backend} {control.view} on {control.target}"
    waiting = f"fewer than two control rounds of {where} are complete"
    status = ITSELF_STATUS.get(control.itself_verdict, "not_run")
    outcomes = {"tie": "no difference", "difference": "a false difference", "undecided": "undecided"}
    detail = f"{where} against itself: {outcomes.get(control.itself_verdict, '')} {_words(control.itself)}"
    itself = Gate(name=f"A/A control {control.target}", status=status, detail=detail if control.itself else waiting)
    share = f"{control.slowdown - 1:.0%}" if control.slowdown else "slowdown"
    status = SLOWED_STATUS.get(control.slowed_verdict, "not_run")
    detail = f"{where} slowed by {share}: {control.slowed_verdict} {_words(control.slowed)}"
    slowed = Gate(name=f"{share} control {control.target}", status=status, detail=detail if control.slowed else waiting)
    return itself, slowed


def _interval(ratios: dict[int, float], indices: range, confidence: float) -> Interval | None:
    values = [ratio for index, ratio in ratios.items() if index in indices]
    return geometric_interval(values, confidence) if len(values) > 1 else None


def _itself(interval: Interval | None, surely: Interval | None, margin: float) -> ItselfVerdict:
    """Return `tie` if the interval contains 1 or lies within the margin.

    Args:
        surely: the interval that can fail the control: `difference` if it lies beyond the margin. None: it cannot fail.
    """
    if interval is None:
        return "not_run"
    bound = math.log1p(margin)
    if surely is not None and (math.log(surely.low) > bound or math.log(surely.high) < -bound):
        return "difference"
    low, high = math.log(interval.low), math.log(interval.high)
    return "tie" if low <= 0 <= high or (-bound < low and high < bound) else "undecided"


def _slowed(interval: Interval | None, surely: Interval | None, slowdown: float) -> SlowedVerdict:
    """Return `found` if the cell is significantly slower, but not by more than twice the slowdown."""
    if interval is None:
        return "not_run"
    known = math.log(slowdown)
    if surely is not None and (math.log(surely.high) < known / 2 or math.log(surely.low) > 2 * known):
        return "missed"
    return "found" if 0 < math.log(interval.low) <= 2 * known else "undecided"


def _words(effect: Effect | None) -> str:
    return f"({effect.ratio:.3f}, {effect.low:.3f} to {effect.high:.3f}, {effect.n_rounds} rounds)" if effect else ""
