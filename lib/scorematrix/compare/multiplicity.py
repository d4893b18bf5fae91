"""Correct for several questions in one run: a winner must survive the correction for all of them (rule 25)."""

from __future__ import annotations

import math
from collections.abc import Sequence

from scorematrix.compare.schema import Contrast
from scorematrix.compare.statistics import CONFIDENCE, Interval, holm, p_beyond
from scorematrix.compare.verdict import Verdict, sentence

UNANSWERED = ("deferred", "invalid")
"""Verdicts that do not depend on measured times, and so not on chance."""


def correct_family(contrasts: Sequence[Contrast], n_looks: int) -> list[Contrast]:
    """Apply Holm's correction over all contrasts of a run that have times; withdraw each win that does not survive it.

    Args:
        n_looks: number of round counts at which the run may be judged; each look gets its share of the level.
    """
    intervals = {i: c.effect.interval for i, c in enumerate(contrasts) if c.effect and c.verdict not in UNANSWERED}
    p_values = [p_beyond(interval, math.log1p(contrasts[i].margin)) for i, interval in intervals.items()]
    adjusted = holm([min(1.0, n_looks * p) for p in p_values])
    corrected = list(contrasts)
    for (i, interval), p in zip(intervals.items(), adjusted, strict=True):
        corrected[i] = _corrected(contrasts[i], interval, p, len(intervals))
    return corrected


def _corrected(contrast: Contrast, interval: Interval, p: float, n_family: int) -> Contrast:
    if contrast.winner is None or p <= 1 - CONFIDENCE:
        return contrast.model_copy(update={"p_adjusted": p})
    reason = f"the interval lies beyond the margin, but not after correction for {n_family} contrasts (Holm, p={p:.3f})"
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
