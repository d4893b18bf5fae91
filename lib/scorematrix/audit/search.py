"""Search for a request that a backend answers wrongly, within a time budget, and shrink it to the smallest one.

The fixed probes are small and alike. Real faults depend on a size against a block, page or bucket, on ids, equal items,
earlier calls, or the age of the process. So requests are drawn around such sizes, and related to earlier ones, and a
few items of each are compared with the reference: the same query and item alone, in float32.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from itertools import chain

import numpy as np

from scorematrix.audit.contract import BrokenPromise, Score
from scorematrix.audit.probes import Probes
from scorematrix.audit.shrink import shrunk
from scorematrix.results.audits import Gate
from scorematrix.scoring import Scores
from scorematrix.scoring.server.answers import RequestRejected
from scorematrix.workload.request import ScoreRequest

EDGES = (33, 9, 65, 17, 129, 2, 101, 257, 1, 32, 64, 8, 16, 513, 100, 15, 31, 63, 127, 1025, 200, 3, 7, 255, 2049)
"""Sizes of blocks, pages, windows and buckets, and their neighbours; the most telling first."""
MOST = {"items": 257, "item": 513, "query": 2049, "labels": 65}
"""The largest size drawn per axis."""
LEAST_CALLS = 260
"""Faults of a process's age show after many calls; small requests fill up to this number."""
RANDOM_ITEMS = 2
"""Checked besides the last and the longest one."""
KEPT = 64
"""Earlier requests that are asked again or varied."""
REPEATED_SHARE = 0.5
"""Answers to a repeated request in less than this share of a new request's time come from a cache."""


@dataclass
class Search:
    """The state of one search.

    Args:
        score: asks the backend.
        reference: scores in float32, or None: then items are compared with the backend's own answer to each alone.
        allowed: the largest difference of a probability from the reference.
        rounding: the largest difference between two answers of the backend for the same item.
        max_tokens: query and item together; a model's positions.
        may_refuse: a live server may have limits: a request that it rejects is no fault, and is counted.
    """

    score: Score
    reference: Score | None
    probes: Probes
    allowed: float
    rounding: float
    max_tokens: int
    rng: np.random.Generator
    may_refuse: bool = False
    n_refused: int = 0
    n_calls: int = 0
    worst: float = 0.0
    largest: dict[str, int] = field(default_factory=lambda: dict.fromkeys(MOST, 0))
    earlier: list[tuple[ScoreRequest, Scores]] = field(default_factory=list)

    def fault(self, request: ScoreRequest) -> str | None:
        """Ask for a request; return what is wrong with the answer."""
        try:
            answer = self._asked(request)
        except BrokenPromise as broken:
            if self.may_refuse and isinstance(broken.__cause__, RequestRejected):
                self.n_refused += 1
                return None
            return str(broken)
        n_items = len(request.items_ids)
        lengths = [len(ids) for ids in request.items_ids]
        drawn = self.rng.integers(n_items, size=RANDOM_ITEMS).tolist()
        chosen = sorted({n_items - 1, int(np.argmax(lengths)), *drawn})
        alone = replace(request, items_ids=tuple(request.items_ids[i] for i in chosen))
        if self.reference is not None:
            expected, allowed, what = self.reference(alone), self.allowed, "the reference"
        else:
            singles = [replace(alone, items_ids=(ids,)) for ids in alone.items_ids]
            try:
                expected = np.concatenate([self._asked(single) for single in singles])
            except BrokenPromise as broken:
                return f"for an item alone, {broken}"
            allowed, what = self.rounding, "its answer to the item alone"
        off = np.abs(answer[chosen] - expected).max(axis=1)
        worst = int(np.argmax(off))
        self.worst = max(self.worst, float(off[worst]))
        if not off[worst] <= allowed:
            return f"item {chosen[worst]} is {off[worst]:.1e} away from {what}, {allowed:.0e} allowed"
        return self._twins(request, answer)

    def _twins(self, request: ScoreRequest, answer: Scores) -> str | None:
        """Equal items must have equal scores."""
        first: dict[tuple[int, ...], int] = {}
        for i, ids in enumerate(request.items_ids):
            j = first.setdefault(ids, i)
            if (off := float(np.abs(answer[i] - answer[j]).max())) > self.rounding:
                return f"items {j} and {i} are equal, their scores differ by {off:.1e}"
        return None

    def fault_again(self) -> tuple[ScoreRequest, str] | None:
        """Ask an earlier request again; return it with what is wrong."""
        request, before = self.earlier[int(self.rng.integers(len(self.earlier)))]
        try:
            off = float(np.abs(self._asked(request, keep=False) - before).max())
        except BrokenPromise as broken:
            return request, f"asked again after {self.n_calls} calls, {broken}"
        if off <= self.rounding:
            return None
        return request, f"asked again after {self.n_calls} calls, its scores differ by {off:.1e}"

    def _asked(self, request: ScoreRequest, keep: bool = True) -> Scores:
        self.n_calls += 1
        answer = self.score(request)
        sizes = (
            len(request.items_ids),
            max(map(len, request.items_ids)),
            len(request.query_ids),
            len(request.label_ids),
        )
        self.largest = {axis: max(n, self.largest[axis]) for axis, n in zip(MOST, sizes, strict=True)}
        if keep and request.n_tokens <= 256:
            self.earlier.append((request, answer.copy()))
            del self.earlier[: len(self.earlier) - KEPT]
        return answer

    # Drawing.

    def edges(self) -> Iterator[ScoreRequest]:
        """Yield a request per axis and edge."""
        limit = {axis: min(most, self.max_tokens - 16) for axis, most in MOST.items()}
        limit["labels"] = min(limit["labels"], self.probes.vocab_size)
        for edge, axis in ((edge, axis) for edge in EDGES for axis in MOST if edge <= limit[axis]):
            yield self.drawn(**{"items": 3, "item": 4, "query": 9, "labels": 3} | {axis: edge})

    def drawn(self, items: int, item: int, query: int, labels: int) -> ScoreRequest:
        """Draw a request of about these sizes, with special ids and equal items now and then."""
        lengths = np.maximum(1, item - self.rng.integers(0, 1 + item // 4, items))
        lengths[self.rng.integers(items)] = item
        made = [self._ids(int(n)) for n in lengths]
        if items > 1 and self.rng.random() < 0.4:
            made[int(self.rng.integers(items))] = made[int(self.rng.integers(items))]
        if items > 1 and self.rng.random() < 0.4:  # equal but for one token
            like = list(made[0])
            like[int(self.rng.integers(len(like)))] = int(self.rng.integers(self.probes.vocab_size))
            made[-1] = tuple(like)
        label_ids = self.rng.choice(self.probes.vocab_size, min(labels, self.probes.vocab_size), replace=False)
        softmax = self.probes.softmax_only or bool(self.rng.random() < 0.5)
        return ScoreRequest(self._ids(query), tuple(made), tuple(label_ids.tolist()), softmax)

    def _ids(self, n: int) -> tuple[int, ...]:
        kind, vocab = self.rng.random(), self.probes.vocab_size
        if kind < 0.1:
            return (int(self.rng.integers(vocab)),) * n
        if kind < 0.25:  # special tokens have the first or last ids
            return tuple(self.rng.choice([*range(min(4, vocab)), vocab - 1], n).tolist())
        return tuple(self.rng.integers(0, vocab, n).tolist())

    def other_ids(self, request: ScoreRequest) -> ScoreRequest:
        """Draw a request of the same lengths."""
        items = tuple(self._ids(len(ids)) for ids in request.items_ids)
        return replace(request, query_ids=self._ids(len(request.query_ids)), items_ids=items)

    def related(self) -> ScoreRequest:
        """Vary an earlier request in one thing: a cache by a part of a request answers for the wrong one."""
        request, _ = self.earlier[int(self.rng.integers(len(self.earlier)))]
        items, query, labels = list(request.items_ids), list(request.query_ids), list(request.label_ids)
        match int(self.rng.integers(6)):
            case 0:
                items = [self._ids(len(ids)) for ids in items]
            case 1:
                query = list(self._ids(len(query)))
            case 2:
                items = [items[i] for i in self.rng.permutation(len(items))]
            case 3:
                i = int(self.rng.integers(len(items)))
                items[i] = items[i][::-1] if len(items[i]) > 1 else self._ids(1)
            case 4:
                query[int(self.rng.integers(len(query)))] = int(self.rng.integers(self.probes.vocab_size))
            case _:
                labels = labels[::-1]
        return ScoreRequest(tuple(query), tuple(items), tuple(labels), request.apply_softmax)

    def random(self) -> ScoreRequest:
        """Draw sizes on all axes, one of them large."""
        large = str(self.rng.choice(list(MOST)))
        sizes = {axis: int(self.rng.integers(1, 10)) for axis in MOST}
        sizes[large] = int(self.rng.integers(1, min(MOST[large], self.max_tokens - 16, 300)))
        sizes["labels"] = min(sizes["labels"], self.probes.vocab_size)
        return self.drawn(**sizes)


def search_gates(search: Search, seconds: float) -> list[Gate]:
    """Search for a wrong answer for so many seconds; then look for a cache of requests, unless it is a live server."""
    gate = _searched(search, seconds)
    return [gate] if search.may_refuse or gate.status == "failed" else [gate, caching_gate(search)]


def _searched(search: Search, seconds: float) -> Gate:
    n_requests, end = 0, time.monotonic() + seconds
    for request in _requests(search, end, end + seconds / 4):
        n_requests += 1
        if (fault := search.fault(request)) is not None:
            return _failed(search, *shrunk(request, fault, search.fault, time.monotonic() + seconds / 4))
        if search.earlier and (again := search.fault_again()) is not None:
            return _failed(search, *again)  # of no use to shrink: alone it may be right
    most = search.largest
    return Gate(
        name="search",
        status="passed",
        detail=f"{n_requests} requests of up to {most['items']} items, {most['item']} tokens per item, "
        f"{most['query']} query tokens and {most['labels']} labels: largest difference {search.worst:.1e} "
        f"of {search.allowed:.0e} allowed{f'; {search.n_refused} were refused' if search.n_refused else ''}",
        found={"max": search.worst, "calls": search.n_calls},
        allowed={"max": search.allowed},
    )


def _requests(search: Search, end: float, last_end: float) -> Iterator[ScoreRequest]:
    """Yield requests of telling sizes, each followed by a variation of an earlier one; then small ones to LEAST_CALLS.

    Args:
        end, last_end: of the first and of the second kind, by the monotonic clock.
    """
    for request in chain(search.edges(), iter(search.random, None)):
        if time.monotonic() > end:
            break
        yield request
        if search.earlier:
            yield search.related()
    while search.n_calls < LEAST_CALLS and time.monotonic() < last_end:
        yield search.drawn(2, 3, 5, 2)


def _failed(search: Search, request: ScoreRequest, fault: str) -> Gate:
    sizes = f"{len(request.items_ids)} items of up to {max(map(len, request.items_ids))} tokens"
    sizes += f", {len(request.query_ids)} query tokens, {len(request.label_ids)} labels"
    return Gate(name="search", status="failed", detail=f"{fault} ({sizes})", request=search.probes.shown(request))


def caching_gate(search: Search) -> Gate:
    """Check that a repeated request takes as long as a new one of the same sizes."""
    same = search.drawn(items=4, item=24, query=64, labels=2)
    seconds: dict[str, list[float]] = {"new": [], "repeated": []}
    try:
        for request in (same, search.other_ids(same)):
            search.score(request)
        for _ in range(7):
            for kind, request in (("new", search.other_ids(same)), ("repeated", same)):
                start = time.perf_counter()
                search.score(request)
                seconds[kind].append(time.perf_counter() - start)
    except BrokenPromise as broken:
        return Gate(name="no cache", status="failed", detail=str(broken), request=search.probes.shown(broken.request))
    share = float(np.median(seconds["repeated"]) / np.median(seconds["new"]))
    passed = share >= REPEATED_SHARE
    return Gate(
        name="no cache",
        status="passed" if passed else "failed",
        detail=f"a repeated request takes {share:.2f} times as long as a new one, at least {REPEATED_SHARE} expected",
        found={"share": share},
        allowed={"share": REPEATED_SHARE},
        request=None if passed else search.probes.shown(same),
    )
