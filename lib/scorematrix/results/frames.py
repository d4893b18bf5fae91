"""Rounds as data frames, for figures and for digging."""

from __future__ import annotations

from collections.abc import Iterable

import pandas as pd

from scorematrix.results.schema import Round
from scorematrix.workload.workload import Workload


def request_samples(rounds: Iterable[Round]) -> pd.DataFrame:
    """One row a timed request: all its items at one chunk size, one call after the other. Times in seconds.

    Control rounds are not among them: they show the instrument, not a side.
    """
    rows = [
        (r.backend, r.view, r.target, r.role, r.index, r.position, cell.chunk_size, p, q, sum(calls) / 1e9, len(calls))
        for r in rounds
        if r.role != "control"
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
        for cell in round_.cells if round_.role != "control" else ():
            # A failed cell has no scores.
            for request, scores in zip(workload.requests, cell.scores, strict=False):
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
                        for label, probability in zip(labels, probabilities, strict=True)
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


def against_reference(scores: pd.DataFrame) -> pd.DataFrame:
    """The last confirmation round of every side beside the float32 reference, one row an item and label.

    Args:
        scores: of `item_scores`.

    Returns:
        Its rows with `reference` and `difference` (probability less reference); empty without a reference round.
    """
    keys = ["request", "item", "label"]
    exact = scores.loc[scores["role"] == "reference", [*keys, "probability"]].rename(
        columns={"probability": "reference"}
    )
    own = scores[scores["role"] == "confirm"]
    last = own.groupby(["backend", "view", "target"])["round"].transform("max")
    both = own[own["round"] == last].merge(exact, on=keys)
    return both.assign(difference=both["probability"] - both["reference"])


def furthest(compared: pd.DataFrame, most: int) -> pd.DataFrame:
    """The items that are furthest from the reference, by their worst label, with the distance as `apart`.

    Args:
        compared: of `against_reference`.
    """
    apart = compared.assign(apart=compared["difference"].abs())
    ordered = apart.sort_values("apart", ascending=False, kind="stable")
    return ordered.drop_duplicates(["request", "item"]).head(most)
