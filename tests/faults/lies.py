"""Backends that lie as real systems do, each around a sound one, and the gate that must name the lie."""

from __future__ import annotations

import dataclasses
from collections import OrderedDict
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch

from scorematrix.models import Model
from scorematrix.scoring import Backend, Scores
from scorematrix.scoring.packing import PackedChunk
from scorematrix.scoring.pytorch import portable
from scorematrix.workload import ScoreRequest

Answer = Callable[[Backend, ScoreRequest], Scores]


class LyingBackend:
    """The protocol kept, the answers changed."""

    def __init__(self, sound: Backend, answer: Answer) -> None:
        self._sound, self._answer = sound, answer
        self.info, self.compile_events = sound.info, sound.compile_events

    def prepare(self, requests) -> None:
        self._sound.prepare(requests)

    def score(self, request: ScoreRequest) -> Scores:
        return self._answer(self._sound, request)


class Lie(NamedTuple):
    """`gate` must fail, with `words` in its detail where what went wrong can be told."""

    gate: str
    answer: Answer
    words: str = ""


def with_items(request: ScoreRequest, change) -> ScoreRequest:
    return dataclasses.replace(request, items_ids=tuple(change(ids) for ids in request.items_ids))


def leaks(sound: Backend, request: ScoreRequest) -> Scores:
    """A hundredth of what the next item is moves over."""
    scores = sound.score(request)
    return (0.99 * scores + 0.01 * np.roll(scores, 1, axis=0)).astype(np.float32)


def causal(sound: Backend, request: ScoreRequest) -> Scores:
    """The ragged path runs a plain causal mask: each item sees those before it, positions run on."""
    rows, seen = [], request.query_ids
    for ids in request.items_ids:
        rows.append(sound.score(dataclasses.replace(request, query_ids=seen, items_ids=(ids,)))[0])
        seen = seen + ids
    return np.stack(rows)


def patched(sound: Backend, request: ScoreRequest, name: str, changed: Callable) -> Scores:
    """The sound engine with what one of its functions gives changed."""
    original = getattr(portable, name)
    setattr(portable, name, lambda *arguments: changed(original(*arguments)))
    try:
        return sound.score(request)
    finally:
        setattr(portable, name, original)


def sees_all_items(sound: Backend, request: ScoreRequest) -> Scores:
    """Items see the items before them, with right positions: a mask without segments."""
    return patched(sound, request, "attention_mask", lambda mask_tt: torch.ones_like(mask_tt).tril())


def positions_run_on(sound: Backend, request: ScoreRequest) -> Scores:
    """Rotary positions are not restarted at the query's length for each item."""

    def run_on(chunk: PackedChunk) -> PackedChunk:
        return dataclasses.replace(chunk, position_t=np.arange(len(chunk.position_t), dtype=np.int32))

    return patched(sound, request, "pack", run_on)


def collapsed(sound: Backend, request: ScoreRequest) -> Scores:
    """Items that do not lie next to each other come out bit-identical."""
    scores = sound.score(request)
    scores[2::4] = scores[0]
    return scores


def bfloat16_head(sound: Backend, request: ScoreRequest) -> Scores:
    """Logits are rounded to bfloat16 before the softmax."""
    shares = torch.from_numpy(sound.score(request)).double()
    logits = (torch.log(shares) + 20).bfloat16().double() - 20  # where real logits lie
    found = torch.softmax(logits, dim=-1) if request.apply_softmax else torch.exp(logits)
    return found.float().numpy()


def with_default(sound: Backend, request: ScoreRequest) -> Scores:
    """A label that the server's answer lacks is filled in with 0.0."""
    scores = sound.score(request)
    scores[len(scores) // 2, 1] = 0.0
    return scores


def with_nan(sound: Backend, request: ScoreRequest) -> Scores:
    scores = sound.score(request)
    scores[len(scores) // 2, 0] = np.nan
    return scores


def batch_dependent(sound: Backend, request: ScoreRequest) -> Scores:
    """More items at once, another kernel, other scores."""
    scores = sound.score(request)
    return scores if len(request.items_ids) == 1 else np.clip(scores * 1.001, 0, 1).astype(np.float32)


def nan_in_company(sound: Backend, request: ScoreRequest) -> Scores:
    """More items than usual, and one of them overflows."""
    scores = sound.score(request)
    return with_nan(sound, request) if len(scores) > 8 else scores


def remembering(limit: int) -> Answer:
    """Scores are kept by the query, for as many items as were asked first; so many queries at most."""
    kept: OrderedDict[tuple, Scores] = OrderedDict()

    def answer(sound: Backend, request: ScoreRequest) -> Scores:
        key = (request.query_ids, len(request.items_ids), request.label_ids, request.apply_softmax)
        if key not in kept:
            kept[key] = sound.score(request)
        while len(kept) > limit:
            kept.popitem(last=False)
        return kept[key]

    return answer


def cached_by(key: Callable[[ScoreRequest], object]) -> Answer:
    """Scores are kept by a part of the request, or by a summary of it."""
    kept: dict = {}

    def answer(sound: Backend, request: ScoreRequest) -> Scores:
        shape = (len(request.items_ids), len(request.label_ids))
        name = (key(request), shape, request.apply_softmax)
        if name not in kept:
            kept[name] = sound.score(request)
        return kept[name].copy()

    return answer


def rises_over(least_items: int) -> Answer:
    """Breaks on calls of an unusual size, as an engine does that was tried at one size only."""

    def answer(sound: Backend, request: ScoreRequest) -> Scores:
        if len(request.items_ids) > least_items:
            raise RuntimeError("out of memory")
        return sound.score(request)

    return answer


def clipped(vocab_size: int) -> Answer:
    """Ids beyond the vocabulary are quietly taken for the last one."""

    def clip(ids: tuple[int, ...]) -> tuple[int, ...]:
        return tuple(min(i, vocab_size - 1) for i in ids)

    def answer(sound: Backend, request: ScoreRequest) -> Scores:
        whole = dataclasses.replace(request, query_ids=clip(request.query_ids), label_ids=clip(request.label_ids))
        return sound.score(with_items(whole, clip))

    return answer


def tokenized_otherwise(sound: Backend, request: ScoreRequest) -> Scores:
    """A server with another tokenizer: the same text, other ids."""

    def ids(own: tuple[int, ...]) -> tuple[int, ...]:
        return tuple((7 * i + 3) % 256 for i in own)

    other = dataclasses.replace(request, query_ids=ids(request.query_ids), label_ids=ids(request.label_ids))
    return sound.score(with_items(other, ids))


def other_weights(model: Model) -> Model:
    """One layer's output projection is another layer's."""
    o_lnhd = model.weights.layers.o_lnhd.copy()
    o_lnhd[1] = o_lnhd[0]
    layers = dataclasses.replace(model.weights.layers, o_lnhd=o_lnhd)
    return dataclasses.replace(model, weights=dataclasses.replace(model.weights, layers=layers))


LIES: dict[str, Lie] = {
    "neighbour leakage of 0.01": Lie("neighbours", leaks),
    "causal mask across items": Lie("neighbours", causal),
    "mask without segments": Lie("neighbours", sees_all_items),
    "position ids not restarted": Lie("neighbours", positions_run_on),
    "batch-dependent results": Lie("neighbours", batch_dependent),
    "non-adjacent items bit-identical": Lie("distinct items", collapsed),
    "labels swapped": Lie("parity", lambda s, r: s.score(r)[:, ::-1].copy(), "the labels' columns were reversed"),
    "labels sorted": Lie(
        "label order", lambda s, r: s.score(dataclasses.replace(r, label_ids=tuple(sorted(r.label_ids))))
    ),
    "last token dropped": Lie(
        "parity", lambda s, r: s.score(with_items(r, lambda i: i[:-1] or i)), "each item's last token were dropped"
    ),
    "item truncated at the end": Lie(
        "parity", lambda s, r: s.score(with_items(r, lambda i: i[:8])), "items were cut off after 8 tokens"
    ),
    "query's first token dropped": Lie(
        "parity", lambda s, r: s.score(dataclasses.replace(r, query_ids=r.query_ids[1:])), "the query's first token"
    ),
    "a different tokenizer": Lie("parity", tokenized_otherwise),
    "bf16 head": Lie("parity", bfloat16_head),
    "0.0 filled in": Lie("finite", with_default, "exactly 0.0"),
    "NaN in one item": Lie("finite", with_nan, "item 4 has NaN"),
    "NaN beside many neighbours": Lie("neighbours", nan_in_company, "among more items"),
    "NaN without softmax": Lie(
        "finite", lambda s, r: s.score(r) if r.apply_softmax else with_nan(s, r), "item 4 has NaN"
    ),
    "scores cached by query": Lie("no memory", remembering(100), "other items of the same lengths"),
    "the last call's scores kept": Lie("no memory", remembering(1), "other items of the same lengths"),
    "scores cached for any query": Lie(
        "no memory", lambda s, r: s.score(dataclasses.replace(r, query_ids=(1, 2, 3))), "another query"
    ),
    "scores cached by sorted tokens": Lie(
        "no memory", cached_by(lambda r: (r.query_ids, tuple(tuple(sorted(i)) for i in r.items_ids), r.label_ids))
    ),
    "scores cached without the labels": Lie("label order", cached_by(lambda r: (r.query_ids, r.items_ids))),
    "softmax where none was asked": Lie("range", lambda s, r: s.score(dataclasses.replace(r, apply_softmax=True))),
    "rows that do not sum to 1": Lie("range", lambda s, r: s.score(r) * np.float32(0.98)),
    "breaks on a single item": Lie("form", lambda s, r: s.score(r) if len(r.items_ids) > 1 else 1 / 0, "ZeroDivision"),
    "breaks on many items": Lie("form", rises_over(8), "out of memory"),
    "float64 scores": Lie("form", lambda s, r: s.score(r).astype(np.float64), "float64"),
    "one label only": Lie("form", lambda s, r: s.score(r)[:, :1].copy(), "(8, 1)"),
    "ids clipped to the vocabulary": Lie("refusals", clipped(256), "was scored"),
}  # fmt: skip
