"""Several questions in one run: a winner must still be one when the other questions are counted (rule 25)."""

from __future__ import annotations

import math
from collections.abc import Sequence

from scorematrix.compare.schema import Contrast
from scorematrix.compare.statistics import CONFIDENCE, Interval, holm, p_beyond
from scorematrix.compare.verdict import Verdict, sentence

UNANSWERED = ("deferred", "invalid")
"""Verdicts of contrasts that ask nothing of measured times, and so nothing of chance."""


def correct_family(contrasts: Sequence[Contrast], n_looks: int) -> list[Contrast]:
    """Holm's correction over all contrasts of a run that have times: a win that does not survive it is no win.

    Args:
        n_looks: at how many counts of rounds the run may be looked at; each look has its share of the level.
    """
    intervals = {i: c.effect.interval for i, c in enumerate(contrasts) if c.effect and c.verdict not in UNANSWERED}
    p_values = [p_beyond(interval, math.log1p(contrasts[i].margin)) for i, interval in intervals.items()]
    adjusted = holm([min(1.0, n_looks * p) for p in p_values])
    found = list(contrasts)
    for (i, interval), p in zip(intervals.items(), adjusted, strict=True):
        found[i] = _corrected(contrasts[i], interval, p, len(intervals))
    return found


def _corrected(contrast: Contrast, interval: Interval, p: float, n_family: int) -> Contrast:
    if contrast.winner is None or p <= 1 - CONFIDENCE:
        return contrast.model_copy(update={"p_adjusted": p})
    reason = f"the interval lies beyond the margin, but not once {n_family} contrasts are counted (Holm, p={p:.3f})"
    verdict = Verdict("not_enough_evidence", reason, "more rounds narrow the interval", wants_rounds=True)
    return contrast.model_copy(
        update={
            "p_adjusted": p,
            "verdict": verdict.state,
            "reason": verdict.reason,
            "next_step": verdict.next_step,
            "wants_rounds": verdict.wants_rounds,
            "sentence": sentence(
                contrast.name, contrast.kind, contrast.view, (contrast.first, contrast.second), verdict, interval
            ),
        }
    )
