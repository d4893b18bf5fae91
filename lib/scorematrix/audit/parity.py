"""Whether the scores are right: against a reference that computes every item as a sequence of its own in float32."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict, replace

import numpy as np

from scorematrix.audit.contract import Score
from scorematrix.audit.probes import Probes
from scorematrix.compare.gates import order_gate
from scorematrix.compare.numerics import Caps, distance, ranking
from scorematrix.results.audits import Gate
from scorematrix.scoring import Scores
from scorematrix.workload.request import ScoreRequest

LONGEST = 8
Explanation = Callable[[ScoreRequest], ScoreRequest]
EXPLANATIONS: dict[str, Explanation] = {
    "each item's last token were dropped": lambda r: replace(r, items_ids=tuple(i[:-1] or i for i in r.items_ids)),
    "each item's first token were dropped": lambda r: replace(r, items_ids=tuple(i[1:] or i for i in r.items_ids)),
    "the query's first token were dropped": lambda r: replace(r, query_ids=r.query_ids[1:]),
    f"items were cut off after {LONGEST} tokens": lambda r: replace(
        r, items_ids=tuple(i[:LONGEST] for i in r.items_ids)
    ),
}
"""What a wrong answer may be instead: right for a changed request. Tried where parity fails."""


def parity_gates(score: Score, reference: Score | str, probes: Probes, caps: Caps) -> list[Gate]:
    """Distance and order, over both modes of `apply_softmax`.

    Args:
        reference: scores in float32, or why there are none.
    """
    if isinstance(reference, str):
        return [Gate(name=name, status="not_run", detail=reference) for name in ("parity", "ranking")]
    requests = [probes.base, probes.whole_vocabulary, probes.other_query]
    found = [score(request).astype(np.float64) for request in requests]
    wanted = [reference(request).astype(np.float64) for request in requests]
    away = distance(found, wanted)
    detail = f"largest difference {away.max:.1e} of {caps.max:.0e} allowed"
    if not away.within(caps):
        detail += _explain(found[0], reference, probes.base, away.max)
    status = "passed" if away.within(caps) else "failed"
    shown = probes.shown(probes.base)
    parity = Gate(
        name="parity",
        status=status,
        detail=detail,
        found=asdict(away),
        allowed=asdict(caps),
        request=None if status == "passed" else shown,
    )
    if not math.isfinite(away.max):
        words = "scores that are no numbers have no order"
        return [parity, Gate(name="ranking", status="failed", detail=words, request=shown)]
    order = order_gate("ranking", [ranking(found, wanted, 2 * caps.max)])
    return [parity, order if order.status == "passed" else order.model_copy(update={"request": shown})]


def _explain(found: np.ndarray, reference: Score, request: ScoreRequest, away: float) -> str:
    """Words on what the answer is instead, where one of the known mistakes comes much nearer than the right answer."""
    candidates: dict[str, Scores] = {name: reference(change(request)) for name, change in EXPLANATIONS.items()}
    candidates["each item saw the items before it"] = _behind_each_other(reference, request)
    candidates["the labels' columns were turned round"] = reference(request)[:, ::-1]
    nearest = min(candidates, key=lambda name: np.abs(candidates[name] - found).max())
    off = float(np.abs(candidates[nearest] - found).max())
    return f"; it looks as if {nearest} ({off:.1e} from that)" if off < away / 10 else ""


def _behind_each_other(reference: Score, request: ScoreRequest) -> Scores:
    """Every item behind the query and all items before it: a causal mask with positions that run on."""
    rows, seen = [], request.query_ids
    for ids in request.items_ids:
        rows.append(reference(ScoreRequest(seen, (ids,), request.label_ids, request.apply_softmax))[0])
        seen = seen + ids
    return np.stack(rows)
