"""Rounds as data frames, for figures and for digging."""

from __future__ import annotations

import statistics
from collections.abc import Iterable

import pandas as pd

from scorematrix.results.schema import Round
from scorematrix.workload.workload import Workload


def request_samples(rounds: Iterable[Round]) -> pd.DataFrame:
    """One row a timed request: all its items at one chunk size, one call after the other. Times in seconds."""
    rows = [
        (r.backend, r.view, r.target, r.role, r.index, r.position, cell.chunk_size, p, q, sum(calls) / 1e9, len(calls))
        for r in rounds
        for cell in r.cells
        for p, one_pass in enumerate(cell.call_ns)
        for q, calls in enumerate(one_pass)
    ]
    columns = [
        "backend",
        "view",
        "target",
        "role",
        "round",
        "position",
        "chunk_size",
        "pass",
        "request",
        "seconds",
        "n_calls",
    ]
    return pd.DataFrame(rows, columns=columns)


def item_scores(rounds: Iterable[Round], workload: Workload) -> pd.DataFrame:
    """One row an item and label: the probability that a round's timed call returned, with texts and gold."""
    rows = []
    for round_ in rounds:
        for cell in round_.cells:
            for request, scores in zip(workload.requests, cell.scores):
                labels = request.label_texts or [str(i) for i in request.label_ids]
                for i, probabilities in enumerate(scores):
                    text = request.item_texts[i] if request.item_texts else None
                    gold = labels[request.gold[i]] if request.gold else None
                    rows += [
                        (
                            round_.backend,
                            round_.view,
                            round_.target,
                            round_.role,
                            round_.index,
                            cell.chunk_size,
                            request.id,
                            i,
                            text,
                            gold,
                            label,
                            probability,
                        )
                        for label, probability in zip(labels, probabilities)
                    ]
    columns = [
        "backend",
        "view",
        "target",
        "role",
        "round",
        "chunk_size",
        "request",
        "item",
        "text",
        "gold",
        "label",
        "probability",
    ]
    return pd.DataFrame(rows, columns=columns)


def cell_figures(round_: Round) -> pd.DataFrame:
    """One row a chunk size of a round: status, items per second over its timed passes, median seconds a request."""
    rows = []
    for cell in sorted(round_.cells, key=lambda c: c.chunk_size):
        seconds = [sum(calls) / 1e9 for one_pass in cell.call_ns for calls in one_pass]
        if cell.status != "ok" or not seconds:
            rows.append((cell.chunk_size, cell.status, cell.error, None, None, 0))
            continue
        n_items = sum(map(len, cell.scores)) * len(cell.call_ns)
        rows.append((cell.chunk_size, "ok", None, n_items / sum(seconds), statistics.median(seconds), len(seconds)))
    columns = ["chunk_size", "status", "error", "items_per_second", "median_request_seconds", "n_requests"]
    return pd.DataFrame(rows, columns=columns)
