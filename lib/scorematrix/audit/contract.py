"""What the Backend protocol promises of any answer, whatever the model: form, range, order of labels, refusals."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from scorematrix.audit.probes import Probes
from scorematrix.compare.schema import Gate
from scorematrix.scoring.contract import Scores
from scorematrix.workload.request import ScoreRequest

Score = Callable[[ScoreRequest], Scores]


def contract_gates(score: Score, probes: Probes, rounding: float) -> list[Gate]:
    """Every promise as a gate; without form or finite numbers the later ones cannot be asked.

    Args:
        rounding: how far a probability may move between two answers to the same question.
    """
    first = [form_gate(score, probes)]
    if first[0].status == "passed":
        first.append(finite_gate(score, probes))
    if any(gate.status == "failed" for gate in first):
        return first
    return [
        *first,
        range_gate(score, probes, rounding),
        labels_gate(score, probes, rounding),
        refusal_gate(score, probes),
    ]


def form_gate(score: Score, probes: Probes) -> Gate:
    """A float32 array [items, labels] on the host, for many items and for one."""
    for request in (probes.base, probes.with_items([probes.base.items_ids[0]])):
        wanted = (len(request.items_ids), len(request.label_ids))
        try:
            found = score(request)
        except Exception as error:
            return _failed("form", f"a sound request for {wanted} scores ends in {type(error).__name__}: {error}")
        if not isinstance(found, np.ndarray) or found.dtype != np.float32 or found.shape != wanted:
            got = f"{found.dtype} {found.shape}" if isinstance(found, np.ndarray) else type(found).__name__
            return _failed("form", f"{got} came back where a float32 array {wanted} on the host is due")
    return _passed("form", "float32 arrays [items, labels] on the host")


def finite_gate(score: Score, probes: Probes) -> Gate:
    """No NaN, no infinity, and no 0.0: a softmax over few labels does not reach it, a filled-in default does."""
    scores = score(probes.base)
    for n, row in enumerate(scores):
        if not np.isfinite(row).all():
            return _failed("finite", f"item {n} holds NaN or infinity: {row.tolist()}")
        if (row == 0).any():
            return _failed("finite", f"item {n} holds exactly 0.0, which stands for a label that was not read: {row}")
    return _passed("finite", "every score is a finite number above 0")


def range_gate(score: Score, probes: Probes, rounding: float) -> Gate:
    """Softmax rows sum to 1; shares of the whole vocabulary to less, in the same proportion."""
    over_labels, over_all = score(probes.base), score(probes.whole_vocabulary)
    sums = over_labels.sum(axis=1)
    allowed = max(rounding, 1e-5)
    if (away := float(np.abs(sums - 1).max())) > allowed:
        return _failed("range", f"softmax rows sum to {sums.min():.6f} to {sums.max():.6f} instead of 1", max=away)
    if (over_all < 0).any() or (over_all.sum(axis=1) >= 1).any():
        return _failed("range", "without softmax, the labels' shares of the vocabulary reach 1 or fall below 0")
    proportion = over_all / over_all.sum(axis=1, keepdims=True)
    if (away := float(np.abs(proportion - over_labels).max())) > 10 * allowed:
        return _failed("range", "the two modes of apply_softmax do not give the same proportions", max=away)
    return _passed("range", "rows sum to 1 with softmax, to less without, in the same proportions")


def labels_gate(score: Score, probes: Probes, rounding: float) -> Gate:
    """Columns follow `label_ids`: asked in another order they come in that order."""
    order = np.arange(len(probes.base.label_ids))[::-1]
    turned = replace(probes.base, label_ids=tuple(probes.base.label_ids[i] for i in order))
    away = float(np.abs(score(turned) - score(probes.base)[:, order]).max())
    if not away <= rounding:
        return _failed("label order", f"columns do not follow label_ids: off by {away:.1e}", max=away)
    return _passed("label order", "columns follow label_ids", max=away)


def refusal_gate(score: Score, probes: Probes) -> Gate:
    """An id beyond the vocabulary is refused wherever it stands, with its number in the message."""
    beyond, base = probes.vocab_size, probes.base
    bad = {
        "query": replace(base, query_ids=(*base.query_ids, beyond)),
        "item": probes.with_items([*base.items_ids, (beyond,)]),
        "label": replace(base, label_ids=(*base.label_ids, beyond)),
    }
    for where, request in bad.items():
        try:
            score(request)
        except ValueError as error:
            if str(beyond) not in str(error):
                return _failed("refusals", f"id {beyond} in the {where} is refused without being named: {error}")
        except Exception as error:
            return _failed("refusals", f"id {beyond} in the {where} ends in {type(error).__name__}, not in ValueError")
        else:
            return _failed("refusals", f"id {beyond} in the {where} is beyond the vocabulary and was scored")
    return _passed("refusals", "ids beyond the vocabulary are refused by name in query, items and labels")


def _passed(name: str, detail: str, **found: float) -> Gate:
    return Gate(name=name, status="passed", detail=detail, found=found)


def _failed(name: str, detail: str, **found: float) -> Gate:
    return Gate(name=name, status="failed", detail=detail, found=found)
