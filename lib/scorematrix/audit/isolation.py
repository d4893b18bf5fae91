"""Check that neighbours, order, number of items and earlier calls do not change an item's score (rule 35)."""

from __future__ import annotations

import numpy as np

from scorematrix.audit.contract import Score
from scorematrix.audit.probes import Probes
from scorematrix.compare.numerics import identical_items
from scorematrix.results.audits import Gate
from scorematrix.scoring import Scores

NEIGHBOUR = -1
"""Marks an item that is only a neighbour: its score is not compared."""
SAME = 1e-6
"""Answers to different requests count as the same answer if they differ by less than this."""


def isolation_gates(score: Score, probes: Probes, base: Scores, rounding: float) -> list[Gate]:
    """Check neighbours (content, length, order, number), bit-identical items, and scores kept from an earlier call.

    Args:
        base: the answer to the base request.
    """
    return [neighbours_gate(score, probes, base, rounding), distinct_gate(probes, base), memory_gate(score, probes)]


def neighbours_gate(score: Score, probes: Probes, base: Scores, rounding: float) -> Gate:
    """Check that items keep their scores among other neighbours."""
    items = list(probes.base.items_ids)
    other = [tuple((token + 1) % probes.vocab_size for token in ids) for ids in items]
    n = len(items)
    ends = [0, *[NEIGHBOUR] * (n - 2), n - 1]
    # By change: the new items, and the index of each in the base request.
    changes = {
        "in reverse order": (items[::-1], list(range(n))[::-1]),
        "the others' content changed": ([items[0], *other[1:-1], items[-1]], ends),
        "the others longer": ([items[0], *(ids + ids for ids in items[1:-1]), items[-1]], ends),
        "among more items": ([*other, *items], [*[NEIGHBOUR] * n, *range(n)]),
        "alone": ([items[-1]], [n - 1]),
    }
    moved: dict[str, float] = {}
    for change, (changed, which) in changes.items():
        kept = np.array(which) != NEIGHBOUR
        difference = np.abs(score(probes.with_items(changed))[kept] - base[np.array(which)[kept]])
        moved[change] = float(np.nan_to_num(difference, nan=np.inf).max())
    how = max(moved, key=moved.__getitem__)
    return Gate(
        name="neighbours",
        status="passed" if moved[how] <= rounding else "failed",
        detail=f"a score changes by {moved[how]:.1e} at most with other neighbours ({how})",
        found={"max": moved[how]},
        allowed={"max": rounding},
        request=None if moved[how] <= rounding else probes.shown(probes.with_items(changes[how][0])),
    )


def distinct_gate(probes: Probes, base: Scores) -> Gate:
    """Check that different items have different scores to the last bit. Items that a mask hides would not."""
    twins = identical_items([base], [probes.base.items_ids])
    if twins:
        _, i, j = twins[0]
        detail = f"items {i} and {j} differ, their scores do not"
        return Gate(name="distinct items", status="failed", detail=detail, request=probes.shown(probes.base))
    return Gate(name="distinct items", status="passed", detail="different items have different scores")


def memory_gate(score: Score, probes: Probes) -> Gate:
    """Check that another query, or other items, do not get the previous call's scores."""
    turned = probes.with_items([tuple(reversed(ids)) for ids in probes.base.items_ids])
    for what, request in (("another query", probes.other_query), ("other items of the same lengths", turned)):
        before = score(probes.base)  # sent again each time: some backends remember only the last call
        if np.abs(score(request) - before).max() < SAME:
            detail = f"{what}: the previous call's scores came back"
            return Gate(name="no memory", status="failed", detail=detail, request=probes.shown(request))
    return Gate(name="no memory", status="passed", detail="another query and other items have other scores")
