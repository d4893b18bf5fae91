"""Whether an item's score is its own (rule 35): neighbours, order, company and earlier calls must not move it."""

from __future__ import annotations

import numpy as np

from scorematrix.audit.contract import Score
from scorematrix.audit.probes import Probes
from scorematrix.compare.numerics import identical_items
from scorematrix.compare.schema import Gate

SAME = 1e-6
"""Answers that are nearer than this to each other, to different questions, are one answer."""


def isolation_gates(score: Score, probes: Probes, rounding: float) -> list[Gate]:
    """Neighbours by content, length, order and number; bit-identical items; scores kept from an earlier call."""
    return [neighbours_gate(score, probes, rounding), distinct_gate(score, probes), memory_gate(score, probes)]


def neighbours_gate(score: Score, probes: Probes, rounding: float) -> Gate:
    """The same items among other neighbours keep their scores."""
    items = list(probes.base.items_ids)
    before = score(probes.base)
    other = [tuple((token + 1) % probes.vocab_size for token in ids) for ids in items]
    n = len(items)
    # What changes, the new items, and which of them is which item of the base.
    changes = {
        "in reverse order": (items[::-1], list(range(n))[::-1]),
        "the others' content changed": ([items[0], *other[1:-1], items[-1]], [0, *[-1] * (n - 2), n - 1]),
        "the others longer": ([items[0], *(ids + ids for ids in items[1:-1]), items[-1]], [0, *[-1] * (n - 2), n - 1]),
        "in more company": ([*other, *items], [*[-1] * n, *range(n)]),
        "alone": ([items[-1]], [n - 1]),
    }
    worst, how = 0.0, ""
    for change, (moved, which) in changes.items():
        after = score(probes.with_items(moved))
        kept = [(now, then) for now, then in enumerate(which) if then >= 0]
        away = max(float(np.abs(after[now] - before[then]).max()) for now, then in kept)
        if not away <= worst:  # NaN counts as moved
            worst, how = away, change
    status = "passed" if worst <= rounding else "failed"
    detail = f"a score moves by {worst:.1e} at most with other neighbours" + (f" ({how})" if how else "")
    return Gate(name="neighbours", status=status, detail=detail, found={"max": worst}, allowed={"max": rounding})


def distinct_gate(score: Score, probes: Probes) -> Gate:
    """Different items do not have the same score to the last bit: under a mask that hides them they would."""
    twins = identical_items([score(probes.base)], [probes.base.items_ids])
    if twins:
        _, i, j = twins[0]
        return Gate(name="distinct items", status="failed", detail=f"items {i} and {j} differ, their scores do not")
    return Gate(name="distinct items", status="passed", detail="different items have different scores")


def memory_gate(score: Score, probes: Probes) -> Gate:
    """Nothing of an earlier call is answered again: another query, or other items, have other scores."""
    first = score(probes.base)
    turned = probes.with_items([tuple(reversed(ids)) for ids in probes.base.items_ids])
    for what, request in (("another query", probes.other_query), ("other items of the same lengths", turned)):
        if np.abs(score(request) - first).max() < SAME:
            return Gate(name="no memory", status="failed", detail=f"{what}: the scores of the call before came back")
    return Gate(name="no memory", status="passed", detail="another query and other items have other scores")
