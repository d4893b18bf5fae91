"""Draw requests of telling sizes, ids and relations: between items, between items and query, and between requests."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import cycle

import numpy as np

from scorematrix.audit.probes import Probes
from scorematrix.scoring.stated_limits import StatedLimits
from scorematrix.workload.request import ScoreRequest

Ids = tuple[int, ...]
EDGES = (33, 9, 65, 17, 129, 2, 101, 257, 1, 32, 64, 8, 16, 513, 100, 15, 31, 63, 127, 1025, 200, 3, 7, 255, 2049)
"""Sizes of blocks, pages, windows and buckets, and their neighbours; the most telling first."""
MOST = {"items": 257, "item": 513, "query": 2049, "labels": 65}
"""The largest size drawn per axis."""
MOST_TOKENS = 4096
"""Of a request: a form that packs it into one row keeps a score of each pair of tokens, per head."""
SWEPT = 128
"""Lengths of query and items up to this one are all drawn, given time."""
SPECIAL = 4
"""Special tokens have the first or the last ids; so many of the first are drawn on purpose."""


class Draws:
    """Draws requests within a model's and a server's limits.

    Args:
        max_tokens: query and item together; a model's positions.
        stated: limits of a live server.
    """

    def __init__(self, probes: Probes, max_tokens: int, rng: np.random.Generator, stated: StatedLimits) -> None:
        self.softmax_only, self.vocab, self.rng, self._stated = probes.softmax_only, probes.vocab_size, rng, stated
        self._sweep = cycle((1 + rng.permutation(SWEPT)).tolist())
        _, length = stated.length or ("", max_tokens)
        self._room = max(2, min(max_tokens, length) - 16)  # a server may generate a token, or reserve some
        self.most = {axis: min(most, self._room) for axis, most in MOST.items()}
        self.most["items"] = min(MOST["items"], stated.values.get("max_items", MOST["items"]))
        self.most["labels"] = min(MOST["labels"], self.vocab, stated.values.get("max_scores", MOST["labels"]))

    def endless(self) -> Iterator[ScoreRequest]:
        """Yield a request per axis and edge, with one of random sizes after every second; then only such."""
        yield self.drawn(items=1, item=1, query=1, labels=3)
        edges = [(edge, axis) for edge in EDGES for axis in MOST if edge <= self.most[axis]]
        edges[40:40] = [(most, axis) for axis, most in self.most.items()]
        for n, (edge, axis) in enumerate(edges):
            yield self.drawn(**self._small() | {axis: edge})
            if n % 2:
                yield self.random()
        while True:
            yield self.random()

    def random(self) -> ScoreRequest:
        """Draw all sizes, small ones but on a few axes. Now and then two are equal."""
        sizes = self._small()
        for axis in self.rng.choice(list(MOST), int(self.rng.choice([1, 1, 1, 2, 2, 3])), replace=False).tolist():
            sizes[axis] = self._size(self.most[axis] if self.rng.random() < 0.4 else min(64, self.most[axis]))
        if self.rng.random() < 0.3:
            one, other = self.rng.choice(list(MOST), 2, replace=False).tolist()
            sizes[one] = sizes[other]
        return self.drawn(**sizes)

    def _small(self) -> dict[str, int]:
        sizes = {axis: int(self.rng.integers(1, 8)) for axis in MOST}
        if self.rng.random() < 0.7:  # every length once, then again
            sizes["query" if self.rng.random() < 0.75 else "item"] = next(self._sweep)
        return sizes

    def _size(self, most: int) -> int:
        """Draw a size: the largest, any, or next to a multiple of a block's size."""
        kind, size = self.rng.random(), int(np.exp(self.rng.uniform(np.log(2), np.log(max(3, most)))))
        block = int(self.rng.choice([8, 12, 16, 24, 32, 48, 64, 100, 128]))
        if kind < 0.1:
            return most
        return size if kind < 0.4 else -(-size // block) * block + int(self.rng.choice([-1, 0, 1, 1]))

    def drawn(self, items: int, item: int, query: int, labels: int) -> ScoreRequest:
        """Draw a request of about these sizes, with special ids and related items now and then."""
        items, item, query, labels = (
            max(1, min(size, self.most[axis])) for axis, size in zip(MOST, (items, item, query, labels), strict=True)
        )
        item = min(item, max(1, self._room - query))
        query_ids = self._ids(query)
        made = [self._ids(int(n)) for n in self._lengths(items, item)]
        for _ in range(int(self.rng.integers(0, 3))):
            i, j = (int(k) for k in self.rng.integers(items, size=2))
            ids = self._relative(made[i], query_ids)
            made[j] = ids if len(query_ids) + len(ids) <= self._room else made[j]
        n_labels = min(labels, max(1, self._stated.values.get("max_scores", 2**30) // items))
        softmax = self.softmax_only or bool(self.rng.random() < 0.5)
        return self._within(ScoreRequest(query_ids, tuple(made), self._labels(n_labels, query_ids), softmax))

    def _within(self, request: ScoreRequest) -> ScoreRequest:
        """Drop items until no stated limit is exceeded, nor the memory that a request may take."""
        while len(request.items_ids) > 1 and (request.n_tokens > MOST_TOKENS or self._stated.exceeded(request)):
            request = replace(request, items_ids=request.items_ids[: len(request.items_ids) // 2])
        return request

    def _lengths(self, n: int, most: int) -> np.ndarray:
        """Draw items' lengths: ragged, of a few kinds, or all equal; one has the largest."""
        match int(self.rng.choice(4, p=[0.4, 0.25, 0.2, 0.15])):
            case 0:
                lengths = most - self.rng.integers(0, 1 + most // 4, n)
            case 1:
                lengths = self.rng.choice(self.rng.integers(1, most + 1, 2), n)
            case 2:
                lengths = np.full(n, most)
            case _:
                lengths = self.rng.integers(1, most + 1, n)
        lengths[self.rng.integers(n)] = most
        return np.maximum(1, lengths)

    def _labels(self, n: int, query_ids: Ids) -> Ids:
        labels = self.rng.choice(self.vocab, n, replace=False).tolist()
        if self.rng.random() < 0.3:
            one = int(self.rng.choice([*self._special(), query_ids[-1]]))
            labels = labels if one in labels else [one, *labels[1:]]
        return tuple(self.rng.permutation(labels).tolist())

    def _special(self) -> list[int]:
        return [*range(min(SPECIAL, self.vocab)), self.vocab - 1]

    def _ids(self, n: int) -> Ids:
        """Draw ids: any, one, special ones, with special ones at the ends, or with repetitions."""
        ids = self.rng.integers(0, self.vocab, n)
        match int(self.rng.choice(5, p=[0.55, 0.08, 0.09, 0.18, 0.1])):
            case 1:
                ids[:] = ids[0]
            case 2:
                ids = self.rng.choice(self._special(), n)
            case 3:
                for end in ((0, -1), (0,), (-1,))[int(self.rng.integers(3))]:
                    ids[end] = self.rng.choice(self._special())
            case 4:
                ids = np.repeat(ids, self.rng.integers(1, 4, n))[:n]
            case _:
                pass
        return tuple(ids.tolist())

    def _relative(self, ids: Ids, query_ids: Ids) -> Ids:
        """Return an item related to another one, or to the query."""
        n = int(self.rng.integers(1, 1 + min(len(query_ids), max(1, len(ids)))))
        match int(self.rng.integers(5)):
            case 0:
                return ids
            case 1:
                return self.altered(ids)
            case 2:
                return query_ids[-n:]
            case 3:
                return query_ids[:n]
            case _:
                return query_ids if len(query_ids) <= self.most["item"] else query_ids[-n:]

    def altered(self, ids: Ids) -> Ids:
        """Return ids that a weak key takes for the same: one part changed, tokens in another order, or equal sums."""
        n, changed = len(ids), np.array(ids)
        most = int(self.rng.choice([2, 17, n + 1]))  # a block that is not full, or any part
        keep = max(1, n - int(self.rng.integers(1, most)))
        match int(self.rng.integers(6)) if n > 1 else 0:
            case 0:
                changed[self.rng.integers(n)] = self.rng.integers(self.vocab)
            case 1:
                changed[keep:] = self.rng.integers(0, self.vocab, n - keep)
            case 2:
                changed[: n - keep] = self.rng.integers(0, self.vocab, n - keep)
            case 3:
                changed = self.rng.permutation(changed)
            case 4:  # the ends and the sum stay
                changed[1:-1] = self.rng.permutation(changed[1:-1])
            case _:
                i, j = self.rng.choice(n, 2, replace=False)
                step = min(int(self.rng.integers(1, 4)), int(changed[i]), self.vocab - 1 - int(changed[j]))
                changed[i], changed[j] = changed[i] - step, changed[j] + step
        return tuple(changed.tolist())

    def other_ids(self, request: ScoreRequest) -> ScoreRequest:
        """Draw a request of the same lengths."""
        items = tuple(self._ids(len(ids)) for ids in request.items_ids)
        return replace(request, query_ids=self._ids(len(request.query_ids)), items_ids=items)

    def related(self, request: ScoreRequest) -> ScoreRequest:
        """Vary an earlier request in one thing: a cache by a part of a request answers for the wrong one."""
        items, query, labels = list(request.items_ids), request.query_ids, request.label_ids
        softmax, i = request.apply_softmax, int(self.rng.integers(len(items)))
        match int(self.rng.integers(8)):
            case 0:
                items = [self._ids(len(ids)) for ids in items]
            case 1:
                query = self._ids(len(query))
            case 2 | 3:
                query = self.altered(query)
            case 4:
                items[i] = self.altered(items[i])
            case 5:  # as many tokens, otherwise divided
                items = [*items[:i], items[i][:1], items[i][1:], *items[i + 1 :]] if len(items[i]) > 1 else items[::-1]
            case 6:
                labels = labels[::-1]
            case _:
                softmax = self.softmax_only or not softmax
        return self._within(ScoreRequest(query, tuple(items), labels, softmax))

    def renamed(self, *requests: ScoreRequest) -> list[ScoreRequest]:
        """Return requests with every id replaced, the same one by the same: to any cache they are new."""
        names = self.rng.permutation(self.vocab)

        def new(ids: Ids) -> Ids:
            return tuple(names[list(ids)].tolist())

        return [
            replace(r, query_ids=new(r.query_ids), items_ids=tuple(map(new, r.items_ids)), label_ids=new(r.label_ids))
            for r in requests
        ]

    def company(self, request: ScoreRequest) -> tuple[ScoreRequest, Sequence[int]]:
        """Return some of a request's items in another order, and their indices in the request."""
        n = len(request.items_ids)
        kept = self.rng.permutation(n)[: n if self.rng.random() < 0.5 else int(self.rng.integers(1, n + 1))].tolist()
        return replace(request, items_ids=tuple(request.items_ids[i] for i in kept)), kept

    def refused(self) -> ScoreRequest:
        """Return a small request with one id beyond the vocabulary."""
        request, bad = self.drawn(2, 3, 5, 2), (self.vocab,)
        match int(self.rng.integers(3)):
            case 0:
                return replace(request, query_ids=request.query_ids + bad)
            case 1:
                return replace(request, items_ids=(*request.items_ids, bad))
            case _:
                return replace(request, label_ids=(*request.label_ids[1:], *bad))

    def is_refused(self, request: ScoreRequest) -> bool:
        """Return whether an id is beyond the vocabulary."""
        return max(map(max, (request.query_ids, request.label_ids, *request.items_ids))) >= self.vocab
