"""How a live server lays a prompt out: whether it puts tokens in, and whether `item_first` does what it says."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from scorematrix.audit.contract import Score
from scorematrix.audit.probes import Probes
from scorematrix.audit.wire import Reply, Wire
from scorematrix.models.catalogue import Model
from scorematrix.results.audits import Gate
from scorematrix.workload.request import ScoreRequest

MOST_TOKENS = 24
CLEARLY = 4
"""So many times nearer an explanation must be than the right answer."""
NAMELESS = (0, 1, 2, 3)
"""Where a model has no tokenizer: special tokens have the first ids as a rule."""


def insertions_gate(
    score: Score, reference: Score | str, probes: Probes, model: Model, parity: Gate, largest: float
) -> Gate:
    """Whether the scores are those of the query and the item alone, or of a prompt with a known token put in.

    Args:
        parity: what was found of the scores as they are.
        largest: how far a score may be from the reference's.
    """
    name = "insertions"
    if isinstance(reference, str):
        return Gate(name=name, status="not_run", detail=reference)
    if parity.status == "passed":
        return Gate(name=name, status="passed", detail="nothing stands before, between or behind query and item")
    few = probes.with_items([probes.base.items_ids[0], probes.base.items_ids[2]])
    found = score(few)
    away = float(np.abs(reference(few) - found).max())
    tokens = usual_tokens(model)
    off = {
        f"the token {words} {where}": float(np.abs(reference(changed) - found).max())
        for words, token in tokens.items()
        for where, changed in _placed(few, token).items()
    }
    nearest = min(off, key=off.__getitem__)
    if off[nearest] <= min(largest, away / CLEARLY):
        words = f"{nearest} is put in: {off[nearest]:.1e} from that, {away:.1e} from nothing put in"
        return Gate(name=name, status="failed", detail=words, found={"max": off[nearest]}, request=probes.shown(few))
    words = f"the scores are wrong otherwise: none of {len(tokens)} usual tokens in any place explains them"
    return Gate(name=name, status="not_run", detail=words)


def usual_tokens(model: Model) -> dict[str, int]:
    """The tokens that servers put in: specials, line feeds, a blank."""
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
    """With `item_first` each item stands before the query, for one item and for several; or it is refused."""
    name = "item_first"
    if isinstance(reference, str):
        return Gate(name=name, status="not_run", detail=reference)
    did: dict[str, str] = {}
    for words, n in (("one item", 1), ("several items", 3)):
        request = probes.with_items(list(probes.base.items_ids[:n]))
        did[words] = _did(wire.rows(request, item_first=True), request, reference, largest)
        if did[words] not in ("honoured", "refused"):
            shown = probes.shown(request, item_first=True)
            detail = ", ".join(f"{what} for {which}" for which, what in did.items())
            return Gate(name=name, status="failed", detail=f"item_first is {detail}", request=shown)
    if "honoured" not in did.values():
        return Gate(name=name, status="passed", detail="item_first is refused, not ignored")
    detail = ", ".join(f"{what} for {which}" for which, what in did.items())
    return Gate(name=name, status="passed", detail=f"item_first is {detail}")


def _did(found: np.ndarray | Reply, request: ScoreRequest, reference: Score, largest: float) -> str:
    if isinstance(found, Reply):
        if found.status is not None and 400 <= found.status < 500:
            return "refused"
        return f"answered by {found.fault or f'status {found.status}'} ({found.words})"
    turned = [replace(request, query_ids=item, items_ids=(request.query_ids,)) for item in request.items_ids]
    off = float(np.abs(found - np.concatenate([reference(one) for one in turned])).max())
    as_if_ignored = float(np.abs(found - reference(request)).max())
    if off <= largest and off < as_if_ignored:
        return "honoured"
    return "silently ignored" if as_if_ignored <= largest else f"answered wrong by {off:.1e}"
