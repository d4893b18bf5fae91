"""Check that a live server returns the same scores under load as for single requests."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np

from scorematrix.audit.contract import BrokenPromise, Score
from scorematrix.audit.probes import Probes
from scorematrix.results.audits import Gate
from scorematrix.scoring import Scores
from scorematrix.workload.request import ScoreRequest

N_REQUESTS = 24
N_AT_ONCE = 8
N_PASSES = 2
BUSY = "status 503"
"""A full server may refuse a request; it is then sent again."""
N_TRIES = 20


def concurrency_gate(score: Score, probes: Probes, rounding: float) -> Gate:
    """Send different queries, lengths and item counts at once; compare each answer with that of the request alone."""
    requests = _requests(probes)
    name, n_sent = "concurrency", N_REQUESTS * N_PASSES
    try:
        alone = [score(request) for request in requests]
    except BrokenPromise as broken:
        return Gate(name=name, status="failed", detail=f"sent alone, {broken}", request=probes.shown(broken.request))
    with ThreadPoolExecutor(N_AT_ONCE) as pool:
        together = list(pool.map(lambda request: _asked(score, request), requests * N_PASSES))
    wrong, worst, moved = [], 0, 0.0
    for n, answer in enumerate(together):
        off = np.inf if isinstance(answer, BrokenPromise) else float(np.abs(answer - alone[n % N_REQUESTS]).max())
        if not off <= rounding:
            wrong.append(n)
        if n == 0 or off > moved:
            worst, moved = n, off
    figures, allowed = {"max": moved, "wrong": len(wrong)}, {"max": rounding}
    if not wrong:
        detail = f"{n_sent} requests, {N_AT_ONCE} at once: a score changes by {moved:.1e} at most"
        return Gate(name=name, status="passed", detail=detail, found=figures, allowed=allowed)
    request = requests[worst % N_REQUESTS]
    detail = f"{len(wrong)} of {n_sent} requests are answered differently with {N_AT_ONCE} at once than alone: "
    detail += _what(together[worst], request, requests, alone, moved, rounding)
    detail += _afterwards(score, request, alone[worst % N_REQUESTS], rounding)
    shown = probes.shown(request)
    return Gate(name=name, status="failed", detail=detail, found=figures, allowed=allowed, request=shown)


def _requests(probes: Probes) -> list[ScoreRequest]:
    rng, base = np.random.default_rng(len(probes.base.query_ids)), probes.base
    made = []
    for n in range(N_REQUESTS):
        query = tuple(rng.integers(0, probes.vocab_size, 8 + n % 5 * 4).tolist())
        items = tuple(base.items_ids[i] for i in rng.permutation(len(base.items_ids))[: 1 + n % 4])
        made.append(replace(base, query_ids=query, items_ids=items, label_ids=base.label_ids[:2]))
    return made


def _asked(score: Score, request: ScoreRequest) -> Scores | BrokenPromise:
    for n in range(N_TRIES):
        try:
            return score(request)
        except BrokenPromise as broken:
            if BUSY not in str(broken) or n == N_TRIES - 1:
                return broken
            time.sleep(0.1 * (n + 1))
    raise AssertionError("unreachable: the last try returns")


def _what(
    answer: Scores | BrokenPromise,
    request: ScoreRequest,
    requests: list[ScoreRequest],
    alone: list[Scores],
    moved: float,
    rounding: float,
) -> str:
    if isinstance(answer, BrokenPromise):
        return str(answer)
    for other, scores in zip(requests, alone, strict=True):
        if other != request and scores.shape == answer.shape and np.abs(scores - answer).max() <= rounding:
            return f"off by {moved:.1e}, it is the answer to another concurrent request"
    return f"off by {moved:.1e}"


def _afterwards(score: Score, request: ScoreRequest, alone: Scores, rounding: float) -> str:
    try:
        off = np.abs(score(request) - alone).max()
    except BrokenPromise:
        return "; alone again, it gets no answer"
    return "; alone again, it is right" if off <= rounding else "; alone again, it is still wrong"
