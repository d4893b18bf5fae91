"""A score request: one query, its items and the label tokens, all as token ids."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from numbers import Integral
from typing import Any


@dataclass(frozen=True)
class ScoreRequest:
    """A query with N items, asking P(label | query + item) for each item.

    Attributes:
        query_ids: token ids of the query, at least one.
        items_ids: token ids of each item, at least one item and one token in each.
        label_ids: the label tokens, at least one, no two alike; scores keep their order.
        apply_softmax: True: softmax over the labels, rows sum to 1. False: probability over the full
            vocabulary. (The `/v1/score` wire format defaults to False, this type to True.)

    Raises:
        ValueError: naming the field, its value and the remedy.
    """

    query_ids: tuple[int, ...]
    items_ids: tuple[tuple[int, ...], ...]
    label_ids: tuple[int, ...]
    apply_softmax: bool = True

    def __post_init__(self) -> None:
        if isinstance(self.items_ids, str) or not isinstance(self.items_ids, Sequence):
            raise ValueError(f"items_ids={self.items_ids!r} must be a list with one list of token ids per item")
        set_ = object.__setattr__
        set_(self, "query_ids", _token_ids("query_ids", self.query_ids))
        set_(self, "items_ids", tuple(_token_ids(f"items_ids[{i}]", ids) for i, ids in enumerate(self.items_ids)))
        set_(self, "label_ids", _token_ids("label_ids", self.label_ids))
        if not self.items_ids:
            raise ValueError("items_ids=[] is empty; send at least one item")
        if len(set(self.label_ids)) != len(self.label_ids):
            twice = Counter(self.label_ids).most_common(1)[0][0]
            raise ValueError(f"label_ids contains {twice} more than once; send each label token once")
        if not isinstance(self.apply_softmax, bool):
            raise ValueError(f"apply_softmax={self.apply_softmax!r} must be True or False")

    @property
    def n_tokens(self) -> int:
        """Tokens of the query and of all items."""
        return len(self.query_ids) + sum(map(len, self.items_ids))

    def check_vocabulary(self, vocab_size: int) -> None:
        """Refuse ids outside the model's vocabulary.

        Raises:
            ValueError: naming the first field and id outside.
        """
        if max(map(max, (self.query_ids, self.label_ids, *self.items_ids))) < vocab_size:
            return  # the usual case, without a name for each item
        for name, ids in self._named_ids():
            if max(ids) >= vocab_size:
                worst = next(i for i in ids if i >= vocab_size)
                raise ValueError(
                    f"{name}: token id {worst} is out of vocabulary (vocab size: {vocab_size}); "
                    "tokenize with the tokenizer of the model that scores"
                )

    def chunks(self, chunk_size: int) -> list[ScoreRequest]:
        """Return the calls of a client that sends `chunk_size` items at a time, in item order."""
        if chunk_size < 1:
            raise ValueError(f"chunk_size={chunk_size} must be at least 1")
        starts = range(0, len(self.items_ids), chunk_size)
        return [replace(self, items_ids=self.items_ids[start : start + chunk_size]) for start in starts]

    def _named_ids(self) -> Iterator[tuple[str, tuple[int, ...]]]:
        yield "query_ids", self.query_ids
        yield "label_ids", self.label_ids
        for i, ids in enumerate(self.items_ids):
            yield f"items_ids[{i}]", ids


def body_of(request: ScoreRequest, model: str) -> dict[str, Any]:
    """Return the `/v1/score` body. It has token ids only: servers tokenize text differently by mode."""
    return {
        "model": model,
        "query": list(request.query_ids),
        "items": [list(ids) for ids in request.items_ids],
        "label_token_ids": list(request.label_ids),
        "apply_softmax": request.apply_softmax,
        "item_first": False,
    }


def _token_ids(name: str, ids: Sequence[int]) -> tuple[int, ...]:
    if isinstance(ids, str | bytes):
        raise ValueError(f"{name}={ids!r} is text where token ids belong; tokenize query, items and labels, or none")
    try:
        ids = tuple(ids)
    except TypeError:
        raise ValueError(f"{name}={ids!r} must be a list of token ids") from None
    if not ids:
        raise ValueError(f"{name}=[] is empty; send at least one token id")
    if set(map(type, ids)) == {int} and min(ids) >= 0:  # the usual case, ten times faster than checking each id
        return ids
    for i in ids:
        if not isinstance(i, Integral) or isinstance(i, bool):
            raise ValueError(f"{name} contains {i!r}, which is not an integer; token ids are integers")
        if i < 0:
            raise ValueError(f"{name} contains {i}, which is negative; token ids start at 0")
    return tuple(map(int, ids))
