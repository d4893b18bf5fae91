"""Lies that only a search finds: each depends on a size, an id, equal parts, or on earlier calls, in several forms."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Callable, Hashable
from dataclasses import replace

import numpy as np

from scorematrix.scoring import Backend, Scores
from scorematrix.workload import ScoreRequest
from tests.faults.lies import Answer, patched, with_items

Ids = tuple[int, ...]
When = Callable[[ScoreRequest], bool]


def off(scores: Scores, rows: object = slice(None)) -> Scores:
    """Reverse the rows' labels."""
    scores = scores.copy()
    scores[rows] = scores[rows][:, ::-1]
    return scores


def wrong_if(when: When, rows: object = slice(None)) -> Answer:
    """Answer with the labels reversed in some rows of some requests."""
    return lambda s, r: off(s.score(r), rows) if when(r) else s.score(r)


def rounded_if(when: When, step: float) -> Answer:
    """Round the scores of some requests, as a short number format does."""
    return lambda s, r: (np.round(s.score(r) / step) * step).astype(np.float32) if when(r) else s.score(r)


def by_item(change: Callable[[ScoreRequest, int], ScoreRequest]) -> Answer:
    """Score each item alone in a request that is changed for it."""

    def answer(sound: Backend, request: ScoreRequest) -> Scores:
        changed = [change(request, i) for i in range(len(request.items_ids))]
        if all(one.items_ids == (ids,) and one.query_ids == request.query_ids
               for one, ids in zip(changed, request.items_ids, strict=True)):  # fmt: skip
            return sound.score(request)
        return np.concatenate([sound.score(one) for one in changed])

    return answer


def item(request: ScoreRequest, i: int) -> ScoreRequest:
    return replace(request, items_ids=request.items_ids[i : i + 1])


def query(change: Callable[[Ids], Ids]) -> Answer:
    return lambda s, r: s.score(replace(r, query_ids=change(r.query_ids) or r.query_ids))


def items(change: Callable[[Ids], Ids]) -> Answer:
    return lambda s, r: s.score(with_items(r, lambda ids: change(ids) or ids))


def window(n: int) -> Answer:
    """Each item sees at most n tokens before its last."""
    return by_item(lambda r, i: replace(item(r, i), query_ids=r.query_ids[-max(1, n - len(r.items_ids[i])) :]))


def query_cache(key: Callable[[Ids], Hashable]) -> Answer:
    """Keep a query's keys and values under a weak key; another query with this key and length is taken for it."""
    kept: dict[Hashable, Ids] = {}
    return lambda s, r: s.score(
        replace(r, query_ids=kept.setdefault((key(r.query_ids), len(r.query_ids)), r.query_ids))
    )


def item_cache(key: Callable[[ScoreRequest, Ids], Hashable]) -> Answer:
    """Keep an item's scores under a weak key."""
    kept: dict[Hashable, np.ndarray] = {}

    def answer(sound: Backend, request: ScoreRequest) -> Scores:
        rows = sound.score(request)
        keys = [(key(request, ids), request.label_ids, request.apply_softmax) for ids in request.items_ids]
        return np.stack([kept.setdefault(k, row) for k, row in zip(keys, rows, strict=True)])

    return answer


def deduplicated(key: Callable[[Ids], Hashable]) -> Answer:
    """Score items with the same key once."""

    def answer(sound: Backend, request: ScoreRequest) -> Scores:
        first: dict[Hashable, int] = {}
        return sound.score(request)[[first.setdefault(key(ids), i) for i, ids in enumerate(request.items_ids)]]

    return answer


def ties_unsorted(least: int) -> Answer:
    """Sort items by length, and put those of one length back in reverse order."""

    def answer(sound: Backend, request: ScoreRequest) -> Scores:
        scores, groups = sound.score(request), {}
        for i, ids in enumerate(request.items_ids):
            groups.setdefault(len(ids), []).append(i)
        order = np.arange(len(scores))
        for length, group in groups.items():
            order[group] = group[::-1] if length >= least else group
        return scores[order]

    return answer


def consecutive(n: int) -> Answer:
    """The nth of n consecutive items of equal length loses its last token."""

    def change(request: ScoreRequest, i: int) -> ScoreRequest:
        lengths = {len(ids) for ids in request.items_ids[max(0, i + 1 - n) : i + 1]}
        if i + 1 < n or len(lengths) > 1:
            return item(request, i)
        return with_items(item(request, i), lambda ids: ids[:-1] or (ids[0] ^ 1,))

    return by_item(change)


def positions_end(n: int) -> Answer:
    """Rotary positions stay at n."""

    def clamped(chunk):
        return dataclasses.replace(chunk, position_t=np.minimum(chunk.position_t, n))

    return lambda s, r: patched(s, r, "pack", clamped)


def padding_leaks(n_padding: Callable[[int], int]) -> Answer:
    """A hundredth of the padding's scores moves to the last row."""

    def answer(sound: Backend, request: ScoreRequest) -> Scores:
        scores = sound.score(request)
        if n_padding(len(scores)):
            scores[-1] = 0.99 * scores[-1] + 0.01 * np.eye(len(request.label_ids), dtype=np.float32)[0]
        return scores

    return answer


def labels_by(order: Callable[[ScoreRequest], list[int]], when: When) -> Answer:
    return lambda s, r: s.score(replace(r, label_ids=tuple(order(r)))) if when(r) else s.score(r)


def remembers(wrong: Callable[[list[ScoreRequest], ScoreRequest], bool]) -> Answer:
    """Reverse the labels of a request that is wrong after the calls before it."""
    calls: list[ScoreRequest] = []

    def answer(sound: Backend, request: ScoreRequest) -> Scores:
        is_wrong = wrong(calls, request)
        calls.append(request)
        return off(sound.score(request)) if is_wrong else sound.score(request)

    return answer


def previous_every(n: int) -> Answer:
    """Every nth call returns the scores of the call before, if they have the right shape."""
    state = {"n": 0, "scores": np.zeros(0)}

    def answer(sound: Backend, request: ScoreRequest) -> Scores:
        scores, before = sound.score(request), state["scores"]
        state.update(n=state["n"] + 1, scores=scores.copy())
        return before if state["n"] % n == 0 and before.shape == scores.shape else scores

    return answer


def poisoned(n_calls: int, when: When = lambda _: True) -> Answer:
    """After a refused request, so many calls are wrong."""
    state = {"left": 0}

    def answer(sound: Backend, request: ScoreRequest) -> Scores:
        try:
            scores = sound.score(request)
        except ValueError:
            state["left"] = n_calls
            raise
        if not (state["left"] and when(request)):
            return scores
        state["left"] -= 1
        return off(scores)

    return answer


def mode_before(when: When) -> Answer:
    """Some requests are answered in the `apply_softmax` of the request before."""
    state = {"mode": True}

    def answer(sound: Backend, request: ScoreRequest) -> Scores:
        mode, state["mode"] = state["mode"], request.apply_softmax
        return sound.score(replace(request, apply_softmax=mode) if when(request) else request)

    return answer


def query_before(n: int) -> Answer:
    """Items after the first n are scored behind the previous request's query."""
    state: dict[str, Ids] = {}

    def answer(sound: Backend, request: ScoreRequest) -> Scores:
        before, state["query"] = state.get("query", request.query_ids), request.query_ids
        scores = sound.score(request)
        if len(scores) > n:
            rest = replace(request, query_ids=before, items_ids=request.items_ids[n:])
            scores = np.concatenate([scores[:n], sound.score(rest)])
        return scores

    return answer


def budget(n: int) -> Answer:
    """Items that begin after n tokens of the request are cut to one token."""

    def answer(sound: Backend, request: ScoreRequest) -> Scores:
        ends = len(request.query_ids) + np.cumsum([len(ids) for ids in request.items_ids])
        if ends[-1] <= n:
            return sound.score(request)
        cut = [ids if end <= n else ids[:1] for ids, end in zip(request.items_ids, ends, strict=True)]
        return sound.score(replace(request, items_ids=tuple(cut)))

    return answer


def collapsed(ids: Ids) -> Ids:
    """Drop repetitions of the token before."""
    return tuple(t for t, before in zip(ids, (None, *ids), strict=False) if t != before)


def end_dropped(query_ids: Ids, ids: Ids) -> Ids:
    """Drop the last token of an item that repeats the query's end."""
    return ids[:-1] or (ids[0] ^ 1,) if query_ids[-len(ids) :] == ids else ids


def shape(r: ScoreRequest) -> tuple:
    return len(r.query_ids), tuple(map(len, r.items_ids)), len(r.label_ids)


def n_items(r: ScoreRequest) -> int:
    return len(r.items_ids)


def longest(r: ScoreRequest) -> int:
    return max(map(len, r.items_ids))


def seen(times: int, when: When) -> Answer:
    """The nth call of one shape is wrong: a program that is captured or compiled late."""
    counts: Counter = Counter()

    def wrong(_: list[ScoreRequest], request: ScoreRequest) -> bool:
        counts[shape(request)] += 1
        return when(request) and counts[shape(request)] == times

    return remembers(wrong)


SEARCH_LIES: dict[str, tuple[Callable[[], Answer], ...]] = {
    "the last item of a block of n and one more": (
        lambda: wrong_if(lambda r: n_items(r) > 1 and n_items(r) % 16 == 1, [-1]),
        lambda: wrong_if(lambda r: n_items(r) > 1 and n_items(r) % 24 == 1, [-1]),
        lambda: wrong_if(lambda r: longest(r) > 1 and longest(r) % 20 == 1),
        lambda: wrong_if(lambda r: len(r.query_ids) > 1 and len(r.query_ids) % 20 == 1),
    ),
    "consecutive items of equal length": (lambda: consecutive(2), lambda: consecutive(4)),
    "a sliding window": (lambda: window(300), lambda: window(60)),
    "a prefix cache by the first tokens": (
        lambda: query_cache(lambda q: q[:4]),
        lambda: query_cache(lambda q: q[: len(q) // 8 * 8] or q),
        lambda: query_cache(lambda q: q[:32]),
    ),
    "a prefix cache by a weak hash": (
        lambda: query_cache(sum),
        lambda: query_cache(lambda q: (q[0], q[-1], sum(q))),
        lambda: query_cache(lambda q: hash(q) % 512),
    ),
    "an item cache": (
        lambda: item_cache(lambda r, ids: (ids, r.query_ids[0], r.query_ids[-1])),
        lambda: item_cache(lambda r, ids: (r.query_ids, ids[:3], ids[-3:], len(ids))),
        lambda: item_cache(lambda r, ids: (ids, sum(r.query_ids))),
    ),
    "the query's last partial block is dropped": (
        lambda: query(lambda q: q[: len(q) // 12 * 12] if len(q) > 30 else q),
        lambda: query(lambda q: q[: len(q) // 8 * 8] if len(q) > 200 else q),
    ),
    "padding leaks": (
        lambda: padding_leaks(lambda n: n & (n - 1)),
        lambda: padding_leaks(lambda n: n > 48 and -n % 8),
    ),
    "ties are not unsorted": (lambda: ties_unsorted(14), lambda: ties_unsorted(40)),
    "items are deduplicated wrongly": (
        lambda: deduplicated(lambda ids: ids[:2] if len(ids) > 4 else ids),
        lambda: deduplicated(lambda ids: tuple(sorted(ids))),
        lambda: deduplicated(lambda ids: (len(ids), sum(ids))),
        lambda: deduplicated(lambda ids: ids[-3:] if len(ids) > 4 else ids),
    ),
    "special ids are stripped": (
        lambda: query(lambda q: q[1:] if q[0] == 1 else q),
        lambda: items(lambda ids: ids[:-1] if ids[-1] == 2 else ids),
        lambda: query(lambda q: tuple(t for t in q if t != 255)),
        lambda: items(lambda ids: (0, *ids[1:]) if ids[0] == 3 else ids),
    ),
    "the first or last label id": (
        lambda: wrong_if(lambda r: 0 in r.label_ids),
        lambda: wrong_if(lambda r: 255 in r.label_ids),
        lambda: rounded_if(lambda r: bool({*r.label_ids} & {*r.query_ids[-1:]}), 0.01),
    ),
    "many labels are sorted": (
        lambda: labels_by(lambda r: sorted(r.label_ids), lambda r: len(r.label_ids) > 4),
        lambda: labels_by(lambda r: sorted(r.label_ids), lambda r: len(r.label_ids) > 50),
    ),
    "as many items as labels": (
        lambda: lambda s, r: s.score(r).T.copy() if n_items(r) == len(r.label_ids) else s.score(r),
        lambda: wrong_if(lambda r: n_items(r) == len(r.label_ids) > 6),
        lambda: wrong_if(lambda r: n_items(r) == len(r.query_ids) > 12),
    ),
    "long inputs are rounded": (
        lambda: rounded_if(lambda r: len(r.query_ids) > 40, 1e-3),
        lambda: rounded_if(lambda r: len(r.query_ids) > 400, 1e-3),
        lambda: rounded_if(lambda r: len(r.label_ids) > 40, 1e-3),
    ),
    "positions end": (lambda: positions_end(90), lambda: positions_end(420)),
    "the previous answer every nth call": (lambda: previous_every(50), lambda: previous_every(70)),
    "a refused request": (
        lambda: poisoned(1),
        lambda: poisoned(10**9),
        lambda: poisoned(2, lambda r: n_items(r) > 2),
    ),
    "an earlier request of the same lengths": (
        lambda: remembers(
            lambda c, r: len(c) > 1 and r.n_tokens < 60 and shape(c[-2]) == shape(r) != shape(c[-1])
        ),
        lambda: remembers(lambda calls, r: n_items(r) > 16 and shape(calls[-1]) == shape(r)),
        lambda: remembers(
            lambda c, r: bool(c) and n_items(r) != n_items(c[-1]) and r.n_tokens == c[-1].n_tokens
        ),
    ),
    "a cold program": (
        lambda: seen(1, lambda r: r.n_tokens > 150),
        lambda: seen(2, lambda r: len(r.query_ids) > 60),
        lambda: seen(3, lambda r: n_items(r) > 40),
    ),
    "after a large call": (
        lambda: remembers(lambda calls, r: any(n_items(c) > 99 for c in calls[-3:])),
        lambda: remembers(lambda calls, r: any(c.n_tokens > 600 for c in calls[-1:]) and n_items(r) < 4),
    ),
    "the mode of the request before": (
        lambda: mode_before(lambda r: n_items(r) > 16),
        lambda: mode_before(lambda r: len(r.query_ids) > 99),
    ),
    "an item like the query": (
        lambda: by_item(lambda r, i: with_items(item(r, i), lambda ids: end_dropped(r.query_ids, ids))),
        lambda: wrong_if(lambda r: any(r.query_ids[: len(ids)] == ids for ids in r.items_ids)),
        lambda: wrong_if(lambda r: r.query_ids in r.items_ids),
    ),
    "single tokens": (
        lambda: wrong_if(lambda r: longest(r) == 1),
        lambda: wrong_if(lambda r: len(r.query_ids) == 1),
        lambda: wrong_if(lambda r: len(r.query_ids) == longest(r) == n_items(r) == 1),
    ),
    "a token budget": (lambda: budget(1200), lambda: budget(3000)),
    "the query of the request before": (lambda: query_before(24), lambda: query_before(150)),
    "repeated tokens collapse": (lambda: query(collapsed), lambda: items(collapsed)),
    "items longer than the query": (
        lambda: wrong_if(lambda r: longest(r) > 2 * len(r.query_ids)),
        lambda: wrong_if(lambda r: len(r.query_ids) > 8 and min(map(len, r.items_ids)) > 4 * len(r.query_ids)),
    ),
}  # fmt: skip

HISTORY = {
    "a prefix cache by the first tokens",
    "a prefix cache by a weak hash",
    "an item cache",
    "the previous answer every nth call",
    "a refused request",
    "an earlier request of the same lengths",
    "a cold program",
    "after a large call",
    "the mode of the request before",
    "the query of the request before",
}
"""Lies that depend on earlier calls: a request alone does not show them."""
