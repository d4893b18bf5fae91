"""Check what the Backend protocol promises for every model: form, range, order of labels, refusals."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from scorematrix.audit.probes import Probes
from scorematrix.results.audits import Gate
from scorematrix.scoring import Backend, Scores, checked_scores
from scorematrix.workload.request import ScoreRequest

Score = Callable[[ScoreRequest], Scores]
SUM_ROUNDING = 1e-5
"""Allowed distance of a softmax row's sum from 1. The softmax is float32, whatever the matrix products use."""


class BrokenPromise(Exception):
    """A sound request was not answered, or not in the promised form."""

    def __init__(self, text: str, request: ScoreRequest) -> None:
        super().__init__(text)
        self.request = request


def asker(backend: Backend) -> Score:
    """Return the backend's `score` for sound requests; an error or a malformed answer raises BrokenPromise."""

    def score(request: ScoreRequest) -> Scores:
        try:
            return checked_scores(backend.score(request), request)
        except Exception as error:
            size = f"{len(request.items_ids)} items, {len(request.label_ids)} labels"
            text = f"a sound request ({size}) fails with {type(error).__name__}: {error}"
            raise BrokenPromise(text, request) from error

    return score


def contract_gates(score: Score, probes: Probes, base: Scores, over_all: Scores, rounding: float) -> list[Gate]:
    """Return the range and label order gates.

    Args:
        base, over_all: the answers to the base request in both modes of `apply_softmax`.
        rounding: how far a probability may differ between two answers to the same request.
    """
    return [range_gate(probes, base, over_all, rounding), labels_gate(score, probes, base, rounding)]


def finite_gate(probes: Probes, base: Scores, over_all: Scores) -> Gate:
    """Fail on NaN, infinity and 0.0. A softmax over few labels never reaches 0.0, but a filled-in default does."""
    shown = probes.shown(probes.base)
    for n, rows in enumerate(zip(base, over_all, strict=True)):
        if not np.isfinite(rows).all():
            return _failed("finite", f"item {n} has NaN or infinity: {[row.tolist() for row in rows]}", shown)
    for n, row in enumerate(base):
        if (row == 0).any():
            detail = f"item {n} scores exactly 0.0, so a label was not read: {row}"
            return _failed("finite", detail, shown)
    return _passed("finite", "every score is a finite number above 0")


def range_gate(probes: Probes, base: Scores, over_all: Scores, rounding: float) -> Gate:
    """Check that softmax rows sum to 1, and rows without softmax to less, in the same proportions."""
    sums, shown = base.sum(axis=1), probes.shown(probes.whole_vocabulary)
    if (away := float(np.abs(sums - 1).max())) > SUM_ROUNDING:
        detail = f"softmax rows sum to {sums.min():.6f} to {sums.max():.6f} instead of 1"
        return _failed("range", detail, probes.shown(probes.base), max=away)
    if probes.softmax_only:
        return _passed("range", "rows sum to 1; the backend scores with softmax only", max=away)
    if (over_all < 0).any() or (over_all.sum(axis=1) > 1 - SUM_ROUNDING).any():
        return _failed("range", "without softmax, the labels' probabilities sum to 1 or more, or one is below 0", shown)
    proportion = over_all / over_all.sum(axis=1, keepdims=True)
    if (away := float(np.abs(proportion - base).max())) > rounding:
        return _failed("range", "the two modes of apply_softmax do not give the same proportions", shown, max=away)
    return _passed("range", "rows sum to 1 with softmax, to less without, in the same proportions", max=away)


def labels_gate(score: Score, probes: Probes, base: Scores, rounding: float) -> Gate:
    """Check that columns follow `label_ids` when their order is reversed."""
    order = np.arange(len(probes.base.label_ids))[::-1]
    turned = replace(probes.base, label_ids=tuple(probes.base.label_ids[i] for i in order))
    away = float(np.abs(score(turned) - base[:, order]).max())
    if not away <= rounding:
        detail = f"columns do not follow label_ids: off by {away:.1e}"
        return _failed("label order", detail, probes.shown(turned), max=away)
    return _passed("label order", "columns follow label_ids", max=away)


def refusal_gate(backend: Backend, probes: Probes) -> Gate:
    """Check that an id beyond the vocabulary is refused in query, item and label, with the id in the message."""
    beyond, base = probes.vocab_size, probes.base
    bad = {
        "query": replace(base, query_ids=(*base.query_ids, beyond)),
        "item": probes.with_items([*base.items_ids, (beyond,)]),
        "label": replace(base, label_ids=(*base.label_ids, beyond)),
    }
    for where, request in bad.items():
        shown = probes.shown(request)
        try:
            backend.score(request)
        except ValueError as error:
            if str(beyond) not in str(error):
                detail = f"id {beyond} in the {where} is refused without being named: {error}"
                return _failed("refusals", detail, shown)
        except Exception as error:
            detail = f"id {beyond} in the {where} raises {type(error).__name__}, not ValueError"
            return _failed("refusals", detail, shown)
        else:
            return _failed("refusals", f"id {beyond} in the {where} is beyond the vocabulary and was scored", shown)
    return _passed("refusals", "ids beyond the vocabulary are refused by name in query, items and labels")


def _passed(name: str, detail: str, **figures: float) -> Gate:
    return Gate(name=name, status="passed", detail=detail, found=figures)


def _failed(name: str, detail: str, request: str, **figures: float) -> Gate:
    return Gate(name=name, status="failed", detail=detail, found=figures, request=request)
