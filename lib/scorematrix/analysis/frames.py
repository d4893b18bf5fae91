"""Recorded measurements as tidy frames: one row per call, request, round or score. Missing numbers are NaN.

Every frame names the side in `backend`, `view` and `target`; `side` is its short name. The functions are
methods of `Run`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import pandas as pd

from scorematrix.compare.rounds import round_seconds
from scorematrix.results import Round
from scorematrix.results.cells import Cell

if TYPE_CHECKING:
    from scorematrix.analysis.opened import Run

KEY = ["side", "backend", "view", "target"]
ROUND = ["round", "role", "index", "position"]


def calls(run: Run) -> pd.DataFrame:
    """Return one row per call, in order of measuring.

    `kind` is `timed`, `warm-up`, or `replaced`: a turn that other processes disturbed and that was measured again.
    `seconds` is the time of one call, `turn` its place among all turns of its group (NaN: not measured in turns).
    """
    n_items = [len(request.items_ids) for request in run.workload.requests]
    rows = [
        (*run.key_of(r), *_round(r), cell.chunk_size, cell.slowdown, *row)
        for r in run.records
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


def requests(run: Run) -> pd.DataFrame:
    """Return one row per timed request: all its calls, one after the other. Control rounds are left out."""
    timed = run.calls().query("kind == 'timed' and role != 'control'")
    keys = [*KEY, *ROUND, "chunk_size", "pass", "request"]
    totals = timed.groupby(keys, sort=False, observed=True).agg(
        n_calls=("call", "size"), n_items=("n_items", "sum"), seconds=("seconds", "sum"), disturbed=("disturbed", "any")
    )
    return totals.reset_index()


def rates(run: Run) -> pd.DataFrame:
    """Return one row per round and chunk size: its median pass, and items per second.

    These are the comparison's values: cells that failed, and rounds that the hardware slowed, are left out.
    """
    rows = [
        (*run.key_of(r), *_round(r), cell.chunk_size, seconds, run.workload.n_items / seconds)
        for r in run.records
        if r.role != "control"
        for cell in r.cells
        for seconds in round_seconds([r], cell.chunk_size).values()
    ]
    return pd.DataFrame(rows, columns=[*KEY, *ROUND, "chunk_size", "seconds_per_pass", "items_per_second"])


def scores(run: Run) -> pd.DataFrame:
    """Return one row per round, item and label: the probability, the reference's, and the difference.

    The reference scores one sequence per item in float32. `difference` is NaN without a reference round.
    """
    rows = []
    for round_ in run.records:
        head = (*run.key_of(round_), *_round(round_))
        for cell in round_.cells if round_.role != "control" else ():
            # A failed cell has no scores.
            for request, answers in zip(run.workload.requests, cell.scores, strict=False):
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


def last_scores(run: Run) -> pd.DataFrame:
    """Return the scores of each side's last confirmation round, at its chosen chunk size."""
    chosen = run.cells().query("chosen")[["side", "chunk_size"]]
    confirmed = run.scores().query("role == 'confirm'").merge(chosen, on=["side", "chunk_size"])
    return confirmed[confirmed["index"].eq(confirmed.groupby("side")["index"].transform("max"))]


def _round(of: Round) -> tuple[str, str, int, int]:
    return of.name, of.role, of.index, of.position
