"""Search for a request that a backend answers wrongly, within a time budget, and shrink it to the smallest one.

The fixed probes are small and alike. Real faults depend on a size against a block, page or bucket, on ids, equal
parts, earlier calls, or the age of the process. So requests are drawn around such sizes, and related to earlier ones.
Some items of each are compared with the reference: the same query and item alone, in float32. Other checks need no
reference: a request asked again, its items in other company, and both after a refused request must get equal scores.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace

import numpy as np

from scorematrix.audit.contract import BrokenPromise, Score
from scorematrix.audit.draws import Draws
from scorematrix.audit.probes import Probes
from scorematrix.audit.shrink import shrunk, shrunk_history
from scorematrix.results.audits import Gate
from scorematrix.scoring import Scores
from scorematrix.scoring.contract import RequestRejected
from scorematrix.workload.request import ScoreRequest

LEAST_CALLS = 260
"""Faults of a process's age show after many calls; small requests fill up to this number."""
ALL_ITEMS = 4
"""Of a request with at most so many items, all are compared with the reference."""
RANDOM_ITEMS = 2
"""Compared of a larger request, besides the first, the last and the longest one."""
SHRINK_ITEMS = 32
"""Compared while a request is shrunk."""
ALONE_RIGHT = 5
"""A request is called right alone if it is so under so many names: a wrong answer may be right by chance."""
KEPT = 64
"""Earlier requests that are asked again or varied, and the longest history that is shrunk."""
MOST_SHARE = 0.1
"""A request that is expected to take more of the search's time is left out."""
SMALL_TOKENS = 300
"""Larger requests are asked again less often, and left out if time is short."""
ATTENTION_TOKENS = 1000
"""From here on the time of a call is taken to grow with the square of its tokens."""


@dataclass
class Search:
    """The state of one search.

    Args:
        score: asks the backend.
        reference: scores in float32, or None: then items are compared with the backend's own answer to each alone.
        allowed, rounding: largest difference from the reference, and between two answers for the same item.
        may_refuse: a live server may have limits: a request that it rejects is no fault, and is counted.
        refuses: whether bad requests are sent between the others; False once the backend has answered one.
        wrong_item: index of the item that the last fault names; 0 if it names none.
    """

    score: Score
    reference: Score | None
    probes: Probes
    draws: Draws
    allowed: float
    rounding: float
    may_refuse: bool = False
    n_refused: int = 0
    n_calls: int = 0
    worst: float = 0.0
    refuses: bool = True
    wrong_item: int = 0
    largest: Counter[str] = field(default_factory=Counter)
    earlier: list[tuple[ScoreRequest, Scores]] = field(default_factory=list)
    history: list[ScoreRequest] = field(default_factory=list)
    _pace: float = np.inf

    @property
    def rng(self) -> np.random.Generator:
        """The generator of the draws."""
        return self.draws.rng

    def fault(self, request: ScoreRequest, n_checked: int = ALL_ITEMS, also: int = 0) -> str | None:
        """Ask for a request; return what is wrong with the answer.

        Args:
            n_checked: so many items are compared with the reference, of a larger request the first, the last, the
                longest and random ones.
            also: an item that is compared in any case.
        """
        began, self.wrong_item = time.monotonic(), 0
        try:
            answer = self._asked(request)
        except BrokenPromise as broken:
            if self.may_refuse and isinstance(broken.__cause__, RequestRejected):
                self.n_refused += 1
                return None
            return str(broken)
        chosen = self._chosen(request, n_checked, also)
        alone = replace(request, items_ids=tuple(request.items_ids[i] for i in chosen))
        if self.reference is not None:
            expected, allowed, what = self.reference(alone), self.allowed, "the reference"
        else:
            singles = [replace(alone, items_ids=(ids,)) for ids in alone.items_ids]
            try:
                expected = np.concatenate([self._asked(single, keep=False) for single in singles])
            except BrokenPromise as broken:
                return f"for an item alone, {broken}"
            allowed, what = self.rounding, "its answer to the item alone"
        self._pace = min(self._pace, (time.monotonic() - began) / request.n_tokens)
        off = np.abs(answer[chosen] - expected).max(axis=1)
        worst = int(np.argmax(off))
        self.worst = max(self.worst, float(off[worst]))
        if not off[worst] <= allowed:
            self.wrong_item = chosen[worst]
            return f"item {chosen[worst]} is {off[worst]:.1e} away from {what}, {allowed:.0e} allowed"
        return self._twins(request, answer)

    def _chosen(self, request: ScoreRequest, n_checked: int, also: int) -> list[int]:
        n_items = len(request.items_ids)
        if n_items <= n_checked:
            return list(range(n_items))
        lengths = [len(ids) for ids in request.items_ids]
        drawn = self.rng.permutation(n_items)[: n_checked - RANDOM_ITEMS].tolist()
        return sorted({also, n_items - 1, int(np.argmax(lengths)), *drawn})

    def _twins(self, request: ScoreRequest, answer: Scores) -> str | None:
        """Equal items must have equal scores."""
        first: dict[tuple[int, ...], int] = {}
        for i, ids in enumerate(request.items_ids):
            j = first.setdefault(ids, i)
            if (off := float(np.abs(answer[i] - answer[j]).max())) > self.rounding:
                self.wrong_item = i
                return f"items {j} and {i} are equal, their scores differ by {off:.1e}"
        return None

    def is_short(self, request: ScoreRequest, seconds: float) -> bool:
        """Return whether the request will take less than so many seconds, at the best pace so far."""
        n_tokens = request.n_tokens
        return n_tokens <= SMALL_TOKENS or self._pace * n_tokens * max(1, n_tokens / ATTENTION_TOKENS) <= seconds

    def fault_again(self) -> tuple[ScoreRequest, str] | None:
        """Ask the last or an earlier request again, whole or some items in another order; return it with its fault."""
        whole, before, self.wrong_item = *self.earlier[-1], 0
        if self.rng.random() < (0.9 if whole.n_tokens > SMALL_TOKENS else 0.5):
            whole, before = self.an_earlier()
        request, kept, how = whole, list(range(len(whole.items_ids))), "asked again"
        if len(kept) > 1 and self.rng.random() < 0.4:
            (request, kept), how = self.draws.company(whole), "asked with its items in other company"
        try:
            off = np.abs(self._asked(request, keep=False) - before[kept]).max(axis=1)
        except BrokenPromise as broken:
            return request, f"{how}, {broken}"
        if (moved := float(off.max())) <= self.rounding:
            return None
        self.wrong_item = int(np.argmax(off))
        if request != whole and (fault := self.fault(whole, SHRINK_ITEMS, also=kept[self.wrong_item])):
            return whole, fault
        return request, f"{how}, its scores differ by {moved:.1e}"

    def an_earlier(self) -> tuple[ScoreRequest, Scores]:
        """Draw an earlier request, rather a small one."""
        some = [self.earlier[i] for i in self.rng.integers(len(self.earlier), size=2)]
        return min(some, key=lambda one: one[0].n_tokens if one[0].n_tokens > SMALL_TOKENS else 0)

    def be_refused(self) -> None:
        """Send a bad request; what follows must not change. A backend that answers it is sent no more of them."""
        try:
            self._asked(self.draws.refused(), keep=False)
            self.refuses = False
        except BrokenPromise as broken:
            self.refuses = isinstance(broken.__cause__, ValueError)

    def _asked(self, request: ScoreRequest, keep: bool = True) -> Scores:
        self.n_calls += 1
        self.history = [*self.history[1 - KEPT :], request]
        answer = self.score(request)
        self.largest |= Counter(
            items=len(request.items_ids),
            item=max(map(len, request.items_ids)),
            query=len(request.query_ids),
            labels=len(request.label_ids),
            tokens=request.n_tokens,
        )
        if keep:
            self.earlier = [*self.earlier[1 - KEPT :], (request, answer.copy())]
        return answer

    def explained(self, request: ScoreRequest, fault: str, end: float) -> tuple[list[ScoreRequest], str]:
        """Return the smallest request, or sequence of requests, with the fault, and what the fault depends on.

        Args:
            end: by the monotonic clock, of shrinking.
        """
        before, right, calls = self.history[:-1], self.earlier[0], f"after {self.n_calls} calls"
        wrong_item = self.wrong_item
        if (again := self.fault(request, SHRINK_ITEMS, also=wrong_item)) is None:

            def wrong_after(requests: Sequence[ScoreRequest]) -> str | None:
                self._send(requests)
                return self.fault(request, SHRINK_ITEMS, also=wrong_item)

            sequence, found = shrunk_history(before, wrong_after, end)
            if found is None:
                return [request], f"{fault}, {calls}; asked once more, it is right"
            requests = [*sequence, request]
            return requests, f"{found}; alone it is right, but not as the last of {len(requests)} requests"
        if (pair := self._pair(before, request, time.monotonic() + (end - time.monotonic()) / 3)) is not None:
            return pair, f"{again}; alone it is right, but not as the last of 2 requests"
        request, fault = shrunk(request, again, lambda smaller: self.fault(smaller, SHRINK_ITEMS), end)
        if right[0] != request and self._differs(*right):
            return [request], f"{fault}, {calls}; requests that were right before are wrong now"
        if all(self.fault(self.draws.other_ids(request), SHRINK_ITEMS) for _ in range(3)):
            return [request], f"{fault}; so are requests of the same lengths with other ids"
        return [request], f"{fault}; other ids of the same lengths are right"

    def _pair(self, before: Sequence[ScoreRequest], request: ScoreRequest, end: float) -> list[ScoreRequest] | None:
        """Return an earlier request and this one, with renamed ids, if this one is wrong only after the other."""
        item = self.wrong_item

        def wrong(*requests: ScoreRequest) -> bool:
            self._send(requests[:-1])
            return self.fault(requests[-1], SHRINK_ITEMS, also=item) is not None

        for earlier in reversed(before):
            if time.monotonic() > end or wrong(*self.draws.renamed(request)):
                return None
            if earlier == request or self.draws.is_refused(earlier):
                continue
            if wrong(*self.draws.renamed(earlier, request)) and wrong(*(pair := self.draws.renamed(earlier, request))):
                return None if any(wrong(*self.draws.renamed(request)) for _ in range(ALONE_RIGHT)) else pair
        return None

    def _send(self, requests: Sequence[ScoreRequest]) -> None:
        for request in requests:
            with suppress(BrokenPromise):
                self.score(request)

    def _differs(self, request: ScoreRequest, before: Scores) -> bool:
        try:
            return float(np.abs(self.score(request) - before).max()) > self.rounding
        except BrokenPromise:
            return True


def search_gate(search: Search, seconds: float) -> Gate:
    """Search for a wrong answer for so many seconds."""
    n_requests, end = 0, time.monotonic() + seconds
    for request in _requests(search, end, end + seconds / 4, seconds * MOST_SHARE):
        n_requests += 1
        if (fault := search.fault(request)) is not None:
            return _failed(search, request, fault, seconds / 4)
        if search.refuses and search.rng.random() < 0.15:
            search.be_refused()
        for _ in range(int(search.rng.choice([1, 1, 3])) if search.earlier else 0):
            if (again := search.fault_again()) is not None:
                return _failed(search, *again, seconds / 4)
    most = search.largest
    return Gate(
        name="search",
        status="passed",
        detail=f"{n_requests} requests of up to {most['items']} items, {most['item']} tokens per item, "
        f"{most['query']} query tokens and {most['labels']} labels, {most['tokens']} tokens together: "
        f"largest difference {search.worst:.1e} of {search.allowed:.0e} allowed"
        + (f"; {search.n_refused} were refused" if search.n_refused else ""),
        found={"max": search.worst, "calls": search.n_calls},
        allowed={"max": search.allowed},
    )


def _requests(search: Search, end: float, last_end: float, longest: float) -> Iterator[ScoreRequest]:
    """Yield requests of telling sizes, each followed by a variation of an earlier one; then small ones to LEAST_CALLS.

    Args:
        end, last_end: of the first and of the second kind, by the monotonic clock.
        longest: seconds that one request may take.
    """
    now, balance = time.monotonic(), 0.0  # new requests and variations get the same time
    for request in search.draws.endless():
        if now > end:
            break
        if search.is_short(request, longest):
            yield request
            balance, now = balance + time.monotonic() - now, time.monotonic()
        while search.earlier and balance > 0 and now < end:
            last, _ = search.earlier[-1]
            is_last = last.n_tokens <= SMALL_TOKENS and search.rng.random() < 0.3
            yield search.draws.related(last if is_last else search.an_earlier()[0])
            balance, now = balance - (time.monotonic() - now), time.monotonic()
    while search.n_calls < LEAST_CALLS and time.monotonic() < last_end:
        yield search.draws.drawn(2, 3, 5, 2)


def _failed(search: Search, request: ScoreRequest, fault: str, seconds: float) -> Gate:
    requests, fault = search.explained(request, fault, time.monotonic() + seconds)
    last = requests[-1]
    detail = f"{fault} ({len(last.items_ids)} items of up to {max(map(len, last.items_ids))} tokens, "
    detail += f"{len(last.query_ids)} query tokens, {len(last.label_ids)} labels)"
    shown = "\n".join(map(search.probes.shown, requests))
    return Gate(name="search", status="failed", detail=detail, request=shown)
