"""Is a side faster than it was? The one place that may say so; the default is that nothing is known to have changed."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from scorematrix.compare.schema import Gate
from scorematrix.compare.statistics import CONFIDENCE, MIN_ROUNDS, holm
from scorematrix.compare.unpaired import UnpairedRatio, p_beyond_margin
from scorematrix.compare.verdict import OPEN, margin_words, percent

ChangeState = Literal["faster", "slower", "no_change", "undecided", "not_enough_evidence", "missing", "invalid"]


@dataclass(frozen=True)
class Change:
    """What became of one side between two runs.

    Attributes:
        ratio: throughput now over before; None where a side is missing or invalid, whatever its times are.
        p_adjusted: of a ratio within the margin, after all sides are counted (Holm).
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
    """Decide for one side.

    Args:
        missing: why a run has no rounds of the side, one line a run that lacks them.
        gates: of the side in both runs.
        tie_gates: what "no change" needs beside them: proof that a difference would have been found.
        waiting: which planned rounds are not recorded yet, one line a run.
        ratio: throughput now over before; None while a run has fewer than two rounds with a figure.
        margin: what a change must lie beyond, as a fraction; the controls may have widened it.
        tie_margin: what "no change" must lie within: the params' own.
    """
    if missing:
        return Change("missing", "; ".join(missing))
    if failed := [gate for gate in [*gates, *tie_gates] if gate.status == "failed"]:
        return Change("invalid", "; ".join(f"{gate.name}: {gate.detail}" for gate in failed))
    if waiting:
        return Change("not_enough_evidence", "; ".join(waiting), ratio, margin)
    if ratio is None or min(ratio.n_over, ratio.n_under) < MIN_ROUNDS:
        found = f"{ratio.n_under} before and {ratio.n_over} now" if ratio else "fewer than 2 in a run"
        reason = f"{found} of at least {MIN_ROUNDS} rounds have a figure"
        return Change("not_enough_evidence", reason, ratio, margin)
    if open_ := [gate for gate in gates if gate.status in OPEN]:
        reason = "; ".join(f"{gate.name} has not passed: {gate.detail}" for gate in open_)
        return Change("not_enough_evidence", reason, ratio, margin)
    low, high, bound, tie_bound = math.log(ratio.low), math.log(ratio.high), math.log1p(margin), math.log1p(tie_margin)
    words = margin_words(margin, tie_margin)
    if low > bound or high < -bound:
        state = "faster" if low > bound else "slower"
        return Change(state, f"the whole interval lies beyond the {words}", ratio, margin)
    if -tie_bound < low and high < tie_bound:
        if open_ := [gate for gate in tie_gates if gate.status in OPEN]:
            reason = "; ".join(f"{gate.name} has not passed: {gate.detail}" for gate in open_)
            return Change("undecided", reason, ratio, margin)
        return Change("no_change", f"the whole interval lies inside the {percent(tie_margin)} margin", ratio, margin)
    return Change("undecided", f"the interval overlaps the {words}", ratio, margin)


def correct_changes(changes: Sequence[Change]) -> list[Change]:
    """Holm's correction over all sides that have times: asked of many sides, chance alone changes one."""
    asked = {i: p_beyond_margin(c.ratio, c.margin) for i, c in enumerate(changes) if c.ratio is not None}
    found = list(changes)
    for i, p in zip(asked, holm(list(asked.values())), strict=True):
        found[i] = replace(changes[i], p_adjusted=p)
        if changes[i].state in ("faster", "slower") and p > 1 - CONFIDENCE:
            reason = (
                f"the interval lies beyond the margin, but not once {len(asked)} sides are counted (Holm, p={p:.3f})"
            )
            found[i] = replace(found[i], state="undecided", reason=reason)
    return found
