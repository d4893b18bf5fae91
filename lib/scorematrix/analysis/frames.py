"""Recorded measurements as tidy frames: one row per call, request, round or score. Missing numbers are NaN.

Every frame names the side in `backend`, `view` and `target`; `side` is its short name.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import pandas as pd

from scorematrix.compare.rounds import round_seconds
from scorematrix.results import Round
from scorematrix.results.cells import Cell
from scorematrix.workload.workload import Workload

KEY = ["side", "backend", "view", "target"]
ROUND = ["round", "role", "index", "position"]

Namer = Callable[[str, str, str], str]
"""Backend, view and target to the short name of a side."""


def side_namer(targets: Iterable[str]) -> Namer:
    """Return a function that names sides by backend and view, and also by target if there are several."""
    several = len(set(targets)) > 1
    return lambda backend, view, target: f"{backend} {view}" + (f" on {target}" if several else "")


def calls(rounds: Iterable[Round], workload: Workload, name: Namer) -> pd.DataFrame:
    """Return one row per call, in order of measuring.

    `kind` is `timed`, `warm-up`, or `replaced`: a turn that other processes disturbed and that was measured again.
    `seconds` is the time of one call, `turn` its place among all turns of its group (NaN: not measured in turns).
    """
    n_items = [len(request.items_ids) for request in workload.requests]
    rows = [
        (*key_of(r, name), *_round(r), cell.chunk_size, cell.slowdown, *row)
        for r in rounds
        for cell in r.cells
        for row in _cell_calls(cell, n_items)
    ]
    columns = [*KEY, *ROUND, "chunk_size", "slowdown", "kind", "pass", "request", "call", "n_items", "seconds"]
    kinds = {"n_items": int, "seconds": float, "turn": float, "disturbed": bool}
    return pd.DataFrame(rows, columns=[*columns, "turn", "disturbed"]).astype(kinds)


def _cell_calls(cell: Cell, n_items: Sequence[int]) -> Iterator[tuple]:
    kept = {(turn.pass_index, turn.request): turn for turn in cell.turns if turn.replaced_ns is None}
    for kind, passes in (("warm-up", cell.warmup_ns), ("timed", cell.call_ns)):
        for p, one_pass in enumerate(passes):
            for q, times in enumerate(one_pass):
                turn = kept.get((p, q)) if kind == "timed" else None
                where = (turn.place, turn.disturbed) if turn else (None, False)
                yield from _request_calls(kind, p, q, times, n_items[q], cell.chunk_size, where)
    for turn in cell.turns:
        if turn.replaced_ns is not None:
            q, where = turn.request, (turn.place, turn.disturbed)
            yield from _request_calls(
                "replaced", turn.pass_index, q, turn.replaced_ns, n_items[q], cell.chunk_size, where
            )


def _request_calls(
    kind: str, p: int, q: int, times: Sequence[int], n_items: int, chunk_size: int, where: tuple
) -> Iterator[tuple]:
    for i, ns in enumerate(times):
        yield (kind, p, q, i, min(chunk_size, n_items - i * chunk_size), ns / 1e9, *where)


def requests(calls_: pd.DataFrame) -> pd.DataFrame:
    """Return one row per timed request: all its calls, one after the other. Control rounds are left out.

    Args:
        calls_: `calls`.
    """
    timed = calls_[calls_["kind"].eq("timed") & calls_["role"].ne("control")]
    keys = [*KEY, *ROUND, "chunk_size", "pass", "request"]
    totals = timed.groupby(keys, sort=False, observed=True).agg(
        n_calls=("call", "size"), n_items=("n_items", "sum"), seconds=("seconds", "sum"), disturbed=("disturbed", "any")
    )
    return totals.reset_index()


def rates(rounds: Iterable[Round], workload: Workload, name: Namer) -> pd.DataFrame:
    """Return one row per round and chunk size: its median pass, and items per second.

    These are the comparison's values: cells that failed, and rounds that the hardware slowed, are left out.
    """
    rows = [
        (*key_of(r, name), *_round(r), cell.chunk_size, seconds, workload.n_items / seconds)
        for r in rounds
        if r.role != "control"
        for cell in r.cells
        for seconds in round_seconds([r], cell.chunk_size).values()
    ]
    return pd.DataFrame(rows, columns=[*KEY, *ROUND, "chunk_size", "seconds_per_pass", "items_per_second"])


def scores(rounds: Iterable[Round], workload: Workload, name: Namer) -> pd.DataFrame:
    """Return one row per round, item and label: the probability, the reference's, and the difference.

    The reference scores one sequence per item in float32. `difference` is NaN without a reference round.
    """
    rows = []
    for round_ in rounds:
        head = (*key_of(round_, name), *_round(round_))
        for cell in round_.cells if round_.role != "control" else ():
            # A failed cell has no scores.
            for request, answers in zip(workload.requests, cell.scores, strict=False):
                labels = request.label_texts or [str(i) for i in request.label_ids]
                for i, probabilities in enumerate(answers):
                    text = request.item_texts[i] if request.item_texts else None
                    gold = labels[request.gold[i]] if request.gold else None
                    rows += [
                        (*head, cell.chunk_size, request.id, i, text, gold, label, probability)
                        for label, probability in zip(labels, probabilities, strict=True)
                    ]
    columns = [*KEY, *ROUND, "chunk_size", "request", "item", "text", "gold", "label", "probability"]
    frame = pd.DataFrame(rows, columns=columns)
    keys = ["request", "item", "label"]
    exact = frame.loc[frame["role"].eq("reference"), [*keys, "probability"]].drop_duplicates(keys)
    frame = frame.merge(exact.rename(columns={"probability": "reference"}), on=keys, how="left")
    return frame.assign(difference=frame["probability"] - frame["reference"])


def last_scores(scores_: pd.DataFrame, cells_: pd.DataFrame) -> pd.DataFrame:
    """Return the scores of each side's last confirmation round, at its chosen chunk size.

    Args:
        scores_: `scores`.
        cells_: `cells`.
    """
    chosen = cells_.loc[cells_["chosen"], ["side", "chunk_size"]]
    confirmed = scores_[scores_["role"].eq("confirm")].merge(chosen, on=["side", "chunk_size"])
    return confirmed[confirmed["index"].eq(confirmed.groupby("side")["index"].transform("max"))]


def key_of(of: Any, name: Namer) -> tuple[str, str, str, str]:
    return name(of.backend, of.view, of.target), of.backend, of.view, of.target


def _round(of: Round) -> tuple[str, str, int, int]:
    return of.name, of.role, of.index, of.position
