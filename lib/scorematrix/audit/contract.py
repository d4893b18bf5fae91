"""What the Backend protocol promises of any answer, whatever the model: form, range, order of labels, refusals."""

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
"""How far from 1 a softmax row may sum: the softmax is float32 whatever the products are."""


class BrokenPromise(Exception):
    """A sound request was not answered, or not in the promised form."""

    def __init__(self, text: str, request: ScoreRequest) -> None:
        super().__init__(text)
        self.request = request


def asker(backend: Backend) -> Score:
    """The backend's `score` for sound requests; whatever else comes of one is a broken promise."""

    def score(request: ScoreRequest) -> Scores:
        try:
            return checked_scores(backend.score(request), request)
        except Exception as error:
            asked = f"{len(request.items_ids)} items, {len(request.label_ids)} labels"
            text = f"a sound request ({asked}) ends in {type(error).__name__}: {error}"
            raise BrokenPromise(text, request) from error

    return score


def contract_gates(score: Score, probes: Probes, base: Scores, over_all: Scores, rounding: float) -> list[Gate]:
    """Every further promise about sound requests as a gate.

    Args:
        base, over_all: the answers to the base request in both modes of `apply_softmax`.
        rounding: how far a probability may move between two answers to the same question.
    """
    return [range_gate(probes, base, over_all, rounding), labels_gate(score, probes, base, rounding)]


def finite_gate(probes: Probes, base: Scores, over_all: Scores) -> Gate:
    """No NaN, no infinity, and no 0.0: a softmax over few labels does not reach it, a filled-in default does."""
    shown = probes.shown(probes.base)
    for n, rows in enumerate(zip(base, over_all, strict=True)):
        if not np.isfinite(rows).all():
            return _failed("finite", f"item {n} holds NaN or infinity: {[row.tolist() for row in rows]}", shown)
    for n, row in enumerate(base):
        if (row == 0).any():
            words = f"item {n} holds exactly 0.0, which stands for a label that was not read: {row}"
            return _failed("finite", words, shown)
    return _passed("finite", "every score is a finite number above 0")


def range_gate(probes: Probes, base: Scores, over_all: Scores, rounding: float) -> Gate:
    """Softmax rows sum to 1; shares of the whole vocabulary to less, in the same proportion."""
    sums, shown = base.sum(axis=1), probes.shown(probes.whole_vocabulary)
    if (away := float(np.abs(sums - 1).max())) > SUM_ROUNDING:
        words = f"softmax rows sum to {sums.min():.6f} to {sums.max():.6f} instead of 1"
        return _failed("range", words, probes.shown(probes.base), max=away)
    if probes.softmax_only:
        return _passed("range", "rows sum to 1; shares of the whole vocabulary are not answered", max=away)
    if (over_all < 0).any() or (over_all.sum(axis=1) > 1 - SUM_ROUNDING).any():
        return _failed("range", "without softmax, the labels' shares of the vocabulary reach 1 or fall below 0", shown)
    proportion = over_all / over_all.sum(axis=1, keepdims=True)
    if (away := float(np.abs(proportion - base).max())) > rounding:
        return _failed("range", "the two modes of apply_softmax do not give the same proportions", shown, max=away)
    return _passed("range", "rows sum to 1 with softmax, to less without, in the same proportions", max=away)


def labels_gate(score: Score, probes: Probes, base: Scores, rounding: float) -> Gate:
    """Columns follow `label_ids`: asked in another order they come in that order."""
    order = np.arange(len(probes.base.label_ids))[::-1]
    turned = replace(probes.base, label_ids=tuple(probes.base.label_ids[i] for i in order))
    away = float(np.abs(score(turned) - base[:, order]).max())
    if not away <= rounding:
        words = f"columns do not follow label_ids: off by {away:.1e}"
        return _failed("label order", words, probes.shown(turned), max=away)
    return _passed("label order", "columns follow label_ids", max=away)


def refusal_gate(backend: Backend, probes: Probes) -> Gate:
    """An id beyond the vocabulary is refused wherever it stands, with its number in the message."""
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
                words = f"id {beyond} in the {where} is refused without being named: {error}"
                return _failed("refusals", words, shown)
        except Exception as error:
            words = f"id {beyond} in the {where} ends in {type(error).__name__}, not in ValueError"
            return _failed("refusals", words, shown)
        else:
            return _failed("refusals", f"id {beyond} in the {where} is beyond the vocabulary and was scored", shown)
    return _passed("refusals", "ids beyond the vocabulary are refused by name in query, items and labels")


def _passed(name: str, detail: str, **found: float) -> Gate:
    return Gate(name=name, status="passed", detail=detail, found=found)


def _failed(name: str, detail: str, request: str, **found: float) -> Gate:
    return Gate(name=name, status="failed", detail=detail, found=found, request=request)
