"""Check how a live server builds a prompt: whether it inserts tokens, and whether it honours `item_first`."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from scorematrix.audit.contract import Score
from scorematrix.audit.probes import Probes
from scorematrix.models.catalogue import Model
from scorematrix.results.audits import Gate
from scorematrix.servers.audit.wire import Reply, Wire
from scorematrix.workload.request import ScoreRequest

MOST_TOKENS = 24
CLEARLY = 4
"""An explanation must be this many times closer to the scores than the correct answer."""
NAMELESS = (0, 1, 2, 3)
"""Tokens to try if a model has no tokenizer: special tokens usually have the first ids."""


def insertions_gate(
    score: Score, reference: Score | str, probes: Probes, model: Model, parity: Gate, largest: float
) -> Gate:
    """Check whether the scores are those of query and item alone, or of a prompt with a known token inserted.

    Args:
        parity: the parity gate of the same server.
        largest: allowed difference of a score from the reference's.
    """
    name = "insertions"
    if isinstance(reference, str):
        return Gate(name=name, status="not_run", detail=reference)
    if parity.status == "passed":
        return Gate(name=name, status="passed", detail="no token before, between or behind query and item")
    few = probes.with_items([probes.base.items_ids[0], probes.base.items_ids[2]])
    scores = score(few)
    away = float(np.abs(reference(few) - scores).max())
    tokens = usual_tokens(model)
    off = {
        f"token {token_name} {where}": float(np.abs(reference(changed) - scores).max())
        for token_name, token in tokens.items()
        for where, changed in _placed(few, token).items()
    }
    nearest = min(off, key=off.__getitem__)
    if off[nearest] <= min(largest, away / CLEARLY):
        detail = f"the server inserts {nearest}: off by {off[nearest]:.1e} with it, by {away:.1e} without"
        return Gate(name=name, status="failed", detail=detail, found={"max": off[nearest]}, request=probes.shown(few))
    detail = f"the scores are wrong for another reason: none of {len(tokens)} usual tokens explains them in any place"
    return Gate(name=name, status="not_run", detail=detail)


def usual_tokens(model: Model) -> dict[str, int]:
    """Return tokens that servers commonly insert: specials, line feeds, a space."""
    if model.tokenizer is None:
        return {str(token): token for token in NAMELESS}
    ids = [*sorted(model.tokenizer.special_ids)[:MOST_TOKENS]]
    ids += [one[0] for text in ("\n", "\n\n", " ") if len(one := model.tokenizer.encode(text)) == 1]
    return {f"{model.tokenizer.decode([token])!r} ({token})": token for token in ids}


def _placed(request: ScoreRequest, token: int) -> dict[str, ScoreRequest]:
    query, items, one = request.query_ids, request.items_ids, (token,)
    behind = tuple(item + one for item in items)
    return {
        "before the query": replace(request, query_ids=one + query),
        "between query and item": replace(request, query_ids=query + one),
        "behind each item": replace(request, items_ids=behind),
        "before and behind each item": replace(request, query_ids=query + one, items_ids=behind),
        "before the query and between query and item": replace(request, query_ids=one + query + one),
    }


def item_first_gate(wire: Wire, reference: Score | str, probes: Probes, largest: float) -> Gate:
    """Check that `item_first` puts each item before the query, for one and for several items, or is refused."""
    name = "item_first"
    if isinstance(reference, str):
        return Gate(name=name, status="not_run", detail=reference)
    did: dict[str, str] = {}
    for case, n in (("one item", 1), ("several items", 3)):
        request = probes.with_items(list(probes.base.items_ids[:n]))
        did[case] = _did(wire.rows(request, item_first=True), request, reference, largest)
        if did[case] not in ("honoured", "refused"):
            shown = probes.shown(request, item_first=True)
            detail = ", ".join(f"{what} for {which}" for which, what in did.items())
            return Gate(name=name, status="failed", detail=f"item_first is {detail}", request=shown)
    if "honoured" not in did.values():
        return Gate(name=name, status="passed", detail="item_first is refused, not ignored")
    detail = ", ".join(f"{what} for {which}" for which, what in did.items())
    return Gate(name=name, status="passed", detail=f"item_first is {detail}")


def _did(answer: np.ndarray | Reply, request: ScoreRequest, reference: Score, largest: float) -> str:
    if isinstance(answer, Reply):
        if answer.status is not None and 400 <= answer.status < 500:
            return "refused"
        return f"answered by {answer.fault or f'status {answer.status}'} ({answer.words})"
    turned = [replace(request, query_ids=item, items_ids=(request.query_ids,)) for item in request.items_ids]
    off = float(np.abs(answer - np.concatenate([reference(one) for one in turned])).max())
    as_if_ignored = float(np.abs(answer - reference(request)).max())
    if off <= largest and off < as_if_ignored:
        return "honoured"
    return "silently ignored" if as_if_ignored <= largest else f"answered wrong by {off:.1e}"
