"""Judge whether a side became faster or slower. No other module may say so; by default, no change is known."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from scorematrix.compare.schema import Gate, VerdictState
from scorematrix.compare.statistics import CONFIDENCE, Interval, holm, p_beyond
from scorematrix.compare.verdict import judge

ChangeState = Literal["faster", "slower", "no_change", "not_enough_evidence", "missing", "invalid"]
CHANGES: dict[VerdictState, ChangeState] = {
    "first": "slower",
    "second": "faster",
    "tie": "no_change",
    "not_enough_evidence": "not_enough_evidence",
    "deferred": "missing",
    "invalid": "invalid",
}
"""A change is a verdict on OLD, the first side, against NEW, the second one."""


@dataclass(frozen=True)
class Change:
    """The change of one side between two runs.

    Attributes:
        ratio: throughput now over before; None if the side is missing or invalid, even if it has times.
        p_adjusted: p-value of the hypothesis that the ratio lies within the margin, corrected for all sides (Holm).
    """

    state: ChangeState
    reason: str
    ratio: Interval | None = None
    margin: float = 0.0
    p_adjusted: float | None = None


def judge_change(
    *,
    missing: Sequence[str],
    gates: Sequence[Gate],
    tie_gates: Sequence[Gate] = (),
    n_missing: int,
    ratio: Interval | None,
    margin: float,
    tie_margin: float,
) -> Change:
    """Judge the change of one side by the rules of every verdict.

    Args:
        missing: why a run has no rounds of the side, one line per such run.
        gates: the side's gates in both runs.
        n_missing: planned rounds of both runs that are not recorded.
        ratio: throughput now over before; None while a run has fewer than two rounds with a time.
    """
    verdict = judge(
        missing_sides=[(why, "") for why in missing],
        gates=gates,
        tie_gates=tie_gates,
        interval=ratio,
        missing_rounds=n_missing,
        margin=margin,
        tie_margin=tie_margin,
        rounds="rounds per run",
    )
    state = CHANGES[verdict.state]
    return Change(state, verdict.reason, None if state in ("missing", "invalid") else ratio, margin)


def correct_changes(changes: Sequence[Change]) -> list[Change]:
    """Apply Holm's correction over all sides that have times: among many sides, chance alone may show a change."""
    p_values = {i: p_beyond(c.ratio, math.log1p(c.margin)) for i, c in enumerate(changes) if c.ratio is not None}
    corrected = list(changes)
    for i, p in zip(p_values, holm(list(p_values.values())), strict=True):
        corrected[i] = replace(changes[i], p_adjusted=p)
        if changes[i].state in ("faster", "slower") and p > 1 - CONFIDENCE:
            reason = f"not beyond the margin after correction for {len(p_values)} sides (Holm, p={p:.3f})"
            corrected[i] = replace(corrected[i], state="not_enough_evidence", reason=reason)
    return corrected
