"""Several questions in one run: a winner must still be one when the other questions are counted (rule 25)."""

from __future__ import annotations

import math
from collections.abc import Sequence

from scorematrix.compare.schema import Contrast, Effect
from scorematrix.compare.statistics import CONFIDENCE, Interval, holm, p_beyond
from scorematrix.compare.verdict import Verdict, sentence

ANSWERED = ("jax", "pytorch", "tie", "not_enough_evidence")
"""Verdicts of contrasts that were asked of measured times; a deferred or invalid one asks nothing of chance."""


def correct_family(contrasts: Sequence[Contrast], margin: float) -> list[Contrast]:
    """Holm's correction over all contrasts of a run that have times: a win that does not survive it is no win.

    Args:
        margin: as a fraction; what a winner's effect must lie beyond.
    """
    intervals = {i: _interval(c.effect) for i, c in enumerate(contrasts) if c.effect and c.verdict in ANSWERED}
    adjusted = holm([p_beyond(interval, math.log1p(margin)) for interval in intervals.values()])
    found = list(contrasts)
    for (i, interval), p in zip(intervals.items(), adjusted):
        found[i] = _corrected(contrasts[i], interval, p, len(intervals))
    return found


def _corrected(contrast: Contrast, interval: Interval, p: float, n_family: int) -> Contrast:
    if contrast.verdict not in ("jax", "pytorch") or p <= 1 - CONFIDENCE:
        return contrast.model_copy(update={"p_adjusted": p})
    reason = f"the interval lies beyond the margin, but not once {n_family} contrasts are counted (Holm, p={p:.3f})"
    verdict = Verdict("not_enough_evidence", reason, "more rounds narrow the interval")
    return contrast.model_copy(
        update={
            "p_adjusted": p,
            "verdict": verdict.state,
            "reason": verdict.reason,
            "next_step": verdict.next_step,
            "sentence": sentence(contrast.name, contrast.kind, contrast.view, verdict, interval),
        }
    )


def _interval(effect: Effect) -> Interval:
    return Interval(effect.ratio, effect.low, effect.high, effect.n_rounds, effect.sd_log)
