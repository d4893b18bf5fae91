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
    family = [c for c in contrasts if c.verdict in ANSWERED and c.effect is not None]
    raw = [p_beyond(_interval(c.effect), math.log1p(margin)) for c in family if c.effect is not None]
    adjusted = {(c.name, c.view): p for c, p in zip(family, holm(raw))}
    return [_corrected(c, adjusted.get((c.name, c.view)), len(family)) for c in contrasts]


def _corrected(contrast: Contrast, p: float | None, n_family: int) -> Contrast:
    if p is None or contrast.effect is None:
        return contrast
    if contrast.verdict not in ("jax", "pytorch") or p <= 1 - CONFIDENCE:
        return contrast.model_copy(update={"p_adjusted": p})
    reason = f"the interval lies beyond the margin, but not once {n_family} contrasts are counted (Holm, p={p:.3f})"
    verdict = Verdict("not_enough_evidence", reason, "more rounds narrow the interval")
    where = contrast.name if contrast.kind == "framework" else f"System comparison, {contrast.name}"
    return contrast.model_copy(
        update={
            "p_adjusted": p,
            "verdict": verdict.state,
            "reason": verdict.reason,
            "next_step": verdict.next_step,
            "sentence": sentence(where, contrast.view, verdict, _interval(contrast.effect)),
        }
    )


def _interval(effect: Effect) -> Interval:
    return Interval(effect.ratio, effect.low, effect.high, effect.n_rounds, effect.sd_log)
