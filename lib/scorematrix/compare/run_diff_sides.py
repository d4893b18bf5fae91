"""Judge whether a side became faster or slower. No other module may say so; by default, no change is known."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from scorematrix.compare.run_diff_interval import UnpairedRatio, p_beyond_margin
from scorematrix.compare.schema import Gate
from scorematrix.compare.statistics import CONFIDENCE, MIN_ROUNDS, holm
from scorematrix.compare.verdict import OPEN, margin_words, percent

ChangeState = Literal["faster", "slower", "no_change", "undecided", "not_enough_evidence", "missing", "invalid"]


@dataclass(frozen=True)
class Change:
    """The change of one side between two runs.

    Attributes:
        ratio: throughput now over before; None if the side is missing or invalid, even if it has times.
        p_adjusted: p-value of the hypothesis that the ratio lies within the margin, corrected for all sides (Holm).
    """

    state: ChangeState
    reason: str
    ratio: UnpairedRatio | None = None
    margin: float = 0.0
    p_adjusted: float | None = None


def judge_change(
    *,
    missing: Sequence[str],
    gates: Sequence[Gate],
    tie_gates: Sequence[Gate] = (),
    waiting: Sequence[str],
    ratio: UnpairedRatio | None,
    margin: float,
    tie_margin: float,
) -> Change:
    """Judge the change of one side.

    Args:
        missing: why a run has no rounds of the side, one line per such run.
        gates: the side's gates in both runs.
        tie_gates: extra gates for "no change": they prove that the run would have detected a difference.
        waiting: how many planned rounds are recorded, one line per unfinished run.
        ratio: throughput now over before; None while a run has fewer than two rounds with a time.
        margin: "faster" and "slower" need an interval beyond it; a fraction, which the controls may have widened.
        tie_margin: "no change" needs an interval inside it: the margin in the params.
    """
    if missing:
        return Change("missing", "; ".join(missing))
    if failed := [gate for gate in [*gates, *tie_gates] if gate.status == "failed"]:
        return Change("invalid", "; ".join(f"{gate.name}: {gate.detail}" for gate in failed))
    if waiting:
        return Change("not_enough_evidence", "; ".join(waiting), ratio, margin)
    if ratio is None or min(ratio.n_over, ratio.n_under) < MIN_ROUNDS:
        counts = f"{ratio.n_under} before and {ratio.n_over} now" if ratio else "fewer than 2 in a run"
        reason = f"rounds with a time: {counts}, at least {MIN_ROUNDS} per run are needed"
        return Change("not_enough_evidence", reason, ratio, margin)
    if open_ := [gate for gate in gates if gate.status in OPEN]:
        reason = "; ".join(f"{gate.name} has not passed: {gate.detail}" for gate in open_)
        return Change("not_enough_evidence", reason, ratio, margin)
    low, high, bound, tie_bound = math.log(ratio.low), math.log(ratio.high), math.log1p(margin), math.log1p(tie_margin)
    decision_margin = margin_words(margin, tie_margin)
    if low > bound or high < -bound:
        state = "faster" if low > bound else "slower"
        return Change(state, f"the interval lies beyond the {decision_margin}", ratio, margin)
    if -tie_bound < low and high < tie_bound:
        if open_ := [gate for gate in tie_gates if gate.status in OPEN]:
            reason = "; ".join(f"{gate.name} has not passed: {gate.detail}" for gate in open_)
            return Change("undecided", reason, ratio, margin)
        return Change("no_change", f"the interval lies inside the {percent(tie_margin)} margin", ratio, margin)
    return Change("undecided", f"the interval overlaps the {decision_margin}", ratio, margin)


def correct_changes(changes: Sequence[Change]) -> list[Change]:
    """Apply Holm's correction over all sides that have times: among many sides, chance alone may show a change."""
    p_values = {i: p_beyond_margin(c.ratio, c.margin) for i, c in enumerate(changes) if c.ratio is not None}
    corrected = list(changes)
    for i, p in zip(p_values, holm(list(p_values.values())), strict=True):
        corrected[i] = replace(changes[i], p_adjusted=p)
        if changes[i].state in ("faster", "slower") and p > 1 - CONFIDENCE:
            reason = (
                f"the interval lies beyond the margin, but not after correction for {len(p_values)} sides "
                f"(Holm, p={p:.3f})"
            )
            corrected[i] = replace(corrected[i], state="undecided", reason=reason)
    return corrected
