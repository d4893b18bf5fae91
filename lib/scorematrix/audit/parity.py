"""Compare scores with a reference that computes every item as a separate sequence in float32."""

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
"""Known mistakes: a wrong answer may be correct for a request changed like this. Tried if parity fails."""


def parity_gates(score: Score, reference: Score | str, probes: Probes, caps: Caps) -> list[Gate]:
    """Check distance and order of the scores, over both modes of `apply_softmax`.

    Args:
        reference: scores in float32, or why there are none.
    """
    if isinstance(reference, str):
        return [Gate(name=name, status="not_run", detail=reference) for name in ("parity", "ranking")]
    requests = [probes.base, probes.whole_vocabulary, probes.other_query]
    scores = [score(request).astype(np.float64) for request in requests]
    wanted = [reference(request).astype(np.float64) for request in requests]
    away = distance(scores, wanted)
    detail = f"largest difference {away.max:.1e} of {caps.max:.0e} allowed"
    if not away.within(caps):
        detail += _explain(scores[0], reference, probes.base, away.max)
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
        detail = "NaN and infinite scores have no order"
        return [parity, Gate(name="ranking", status="failed", detail=detail, request=shown)]
    order = order_gate("ranking", [ranking(scores, wanted, 2 * caps.max)])
    return [parity, order if order.status == "passed" else order.model_copy(update={"request": shown})]


def _explain(scores: np.ndarray, reference: Score, request: ScoreRequest, away: float) -> str:
    """Name the known mistake that is at least 10 times closer to the scores than the correct answer, if any."""
    candidates: dict[str, Scores] = {name: reference(change(request)) for name, change in EXPLANATIONS.items()}
    candidates["each item saw the items before it"] = _behind_each_other(reference, request)
    candidates["the labels' columns were reversed"] = reference(request)[:, ::-1]
    nearest = min(candidates, key=lambda name: np.abs(candidates[name] - scores).max())
    off = float(np.abs(candidates[nearest] - scores).max())
    return f"; it looks as if {nearest} ({off:.1e} from that)" if off < away / 10 else ""


def _behind_each_other(reference: Score, request: ScoreRequest) -> Scores:
    """Score each item behind the query and all items before it, as a causal mask with continuing positions does."""
    rows, seen = [], request.query_ids
    for ids in request.items_ids:
        rows.append(reference(ScoreRequest(seen, (ids,), request.label_ids, request.apply_softmax))[0])
        seen = seen + ids
    return np.stack(rows)
