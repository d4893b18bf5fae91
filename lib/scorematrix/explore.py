"""A face for the explore notebook: own queries scored by every framework that is here, and recorded runs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from scorematrix.compare import compare_run
from scorematrix.results import SIDES, RunStore, open_run
from scorematrix.scoring.registry import BACKENDS, load_backend, missing_packages
from scorematrix.workload.request import ScoreRequest

if TYPE_CHECKING:
    from scorematrix.models import Model
    from scorematrix.workload.tokenizer import TextTokenizer

RUNS = Path(__file__).resolve().parents[2] / "outputs"


def compare_backends(
    model: Model, request: ScoreRequest, items: Sequence[str], labels: Sequence[str], view: str = "portable"
) -> pd.DataFrame:
    """Probabilities of each framework side by side, one row an item; absent frameworks say so in their columns."""
    frame = pd.DataFrame({"item": list(items)})
    for name in SIDES:
        if view not in BACKENDS[name].views:
            continue
        if missing := missing_packages(name):
            frame[name] = f"skipped: {missing[0]} is not installed"
            continue
        scores = load_backend(name, view=view, model=model).score(request)
        for label, column in zip(labels, scores.T):
            frame[f"{name} P({label!r})"] = column
    return frame


def token_table(tokenizer: TextTokenizer, request: ScoreRequest) -> pd.DataFrame:
    """How query and items came out as tokens, and the position at which each is read."""
    n_query = len(request.query_ids)
    rows = [("query", n_query, 0, n_query - 1, [tokenizer.decode([i]) for i in request.query_ids])]
    for n, ids in enumerate(request.items_ids):
        rows.append((f"item {n}", len(ids), n_query, n_query + len(ids) - 1, [tokenizer.decode([i]) for i in ids]))
    return pd.DataFrame(rows, columns=["part", "tokens", "first position", "last position", "pieces"])


def latest_run(run: str = "", outputs: Path = RUNS) -> RunStore | None:
    """The named run, or the newest under outputs/runs; None where there is none yet."""
    if run:
        return open_run(run, outputs)
    found = sorted(outputs.glob("runs/*/run.json"), key=lambda path: path.stat().st_mtime)
    return RunStore(found[-1].parent) if found else None


def chunk_figures(store: RunStore) -> pd.DataFrame:
    """Every measured cell of a run: items per second and the share of the floor, the least time the hardware allows."""
    comparison = compare_run(store.manifest(), store.workload(), store.readiness(), store.rounds())
    rows = [
        (side.backend, side.view, side.target, cell.chunk_size, cell.items_per_second, cell.floor_fraction)
        for side in comparison.sides
        for cell in side.chunks
        if cell.status == "ok"
    ]
    return pd.DataFrame(rows, columns=["backend", "view", "target", "chunk_size", "items_per_second", "of_floor"])
