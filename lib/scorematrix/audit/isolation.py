"""Whether an item's score is its own (rule 35): neighbours, order, company and earlier calls must not move it."""

from __future__ import annotations

import numpy as np

from scorematrix.audit.contract import Score
from scorematrix.audit.probes import Probes
from scorematrix.compare.numerics import identical_items
from scorematrix.results.audits import Gate
from scorematrix.scoring import Scores

NEIGHBOUR = -1
"""Stands for an item that is there for company only."""
SAME = 1e-6
"""Answers that are nearer than this to each other, to different questions, are one answer."""


def isolation_gates(score: Score, probes: Probes, base: Scores, rounding: float) -> list[Gate]:
    """Neighbours by content, length, order and number; bit-identical items; scores kept from an earlier call.

    Args:
        base: the answer to the base request.
    """
    return [neighbours_gate(score, probes, base, rounding), distinct_gate(probes, base), memory_gate(score, probes)]


def neighbours_gate(score: Score, probes: Probes, base: Scores, rounding: float) -> Gate:
    """The same items among other neighbours keep their scores."""
    items = list(probes.base.items_ids)
    other = [tuple((token + 1) % probes.vocab_size for token in ids) for ids in items]
    n = len(items)
    ends = [0, *[NEIGHBOUR] * (n - 2), n - 1]
    # What changes, the new items, and which item of the base each of them is.
    changes = {
        "in reverse order": (items[::-1], list(range(n))[::-1]),
        "the others' content changed": ([items[0], *other[1:-1], items[-1]], ends),
        "the others longer": ([items[0], *(ids + ids for ids in items[1:-1]), items[-1]], ends),
        "in more company": ([*other, *items], [*[NEIGHBOUR] * n, *range(n)]),
        "alone": ([items[-1]], [n - 1]),
    }
    moved: dict[str, float] = {}
    for change, (asked, which) in changes.items():
        kept = np.array(which) != NEIGHBOUR
        difference = np.abs(score(probes.with_items(asked))[kept] - base[np.array(which)[kept]])
        moved[change] = float(np.nan_to_num(difference, nan=np.inf).max())
    how = max(moved, key=moved.__getitem__)
    return Gate(
        name="neighbours",
        status="passed" if moved[how] <= rounding else "failed",
        detail=f"a score moves by {moved[how]:.1e} at most with other neighbours ({how})",
        found={"max": moved[how]},
        allowed={"max": rounding},
        request=None if moved[how] <= rounding else probes.shown(probes.with_items(changes[how][0])),
    )


def distinct_gate(probes: Probes, base: Scores) -> Gate:
    """Different items do not have the same score to the last bit: under a mask that hides them they would."""
    twins = identical_items([base], [probes.base.items_ids])
    if twins:
        _, i, j = twins[0]
        words = f"items {i} and {j} differ, their scores do not"
        return Gate(name="distinct items", status="failed", detail=words, request=probes.shown(probes.base))
    return Gate(name="distinct items", status="passed", detail="different items have different scores")


def memory_gate(score: Score, probes: Probes) -> Gate:
    """Nothing of the call before is answered again: another query, or other items, have other scores."""
    turned = probes.with_items([tuple(reversed(ids)) for ids in probes.base.items_ids])
    for what, request in (("another query", probes.other_query), ("other items of the same lengths", turned)):
        before = score(probes.base)  # asked anew each time: some remember the last call only
        if np.abs(score(request) - before).max() < SAME:
            words = f"{what}: the scores of the call before came back"
            return Gate(name="no memory", status="failed", detail=words, request=probes.shown(request))
    return Gate(name="no memory", status="passed", detail="another query and other items have other scores")
