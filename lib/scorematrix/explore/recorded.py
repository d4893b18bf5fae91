"""Look into a run: its items by side, its calls one by one, and what changed since another run."""

from __future__ import annotations

import pandas as pd
from IPython.display import Markdown

from scorematrix.analysis import Run
from scorematrix.report.markdown import safe
from scorematrix.report.run_diff import change_markdown, open_change
from scorematrix.results import find_run, newest_runs


def item_table(run: Run, contains: str = "", most: int = 12) -> pd.DataFrame:
    """Return items with the first label's probability by each side and the reference, largest spread first.

    Args:
        contains: only items whose text contains this, ignoring case.
        most: maximum number of items.

    Raises:
        ValueError: for `contains` if the workload has no text.
    """
    scores = pd.concat([run.last_scores(), run.scores().query("role == 'reference'").assign(side="reference")])
    scores = scores[scores["label"].eq(scores.groupby("request")["label"].transform("first"))]
    # Synthetic workloads have neither text nor gold.
    available = [name for name in ("text", "gold") if scores[name].notna().any()]
    if contains and "text" not in available:
        raise ValueError(f"contains={contains!r}: this workload has no text; leave contains empty")
    if contains:
        scores = scores[scores["text"].str.contains(contains, case=False, regex=False, na=False)]
    table = scores.fillna(dict.fromkeys(available, "")).pivot_table(
        "probability", ["request", "item", *available], "side", aggfunc="first", sort=False
    )
    spread = (table.max(axis=1) - table.min(axis=1)).rename("spread")
    widest = table.assign(spread=spread).sort_values("spread", ascending=False, kind="stable").head(most)
    return widest.reset_index().rename_axis(columns=None)


def cell_calls(run: Run, side: str = "", chunk_size: int = 0) -> pd.DataFrame:
    """Return every call of one cell, including warm-up and replaced calls, but not those of control rounds.

    Args:
        side: a side's name in the frames, such as `jax portable`; empty takes the first measured side.
        chunk_size: 0 takes the side's chosen chunk size.

    Raises:
        ValueError: for a side or chunk size that the run did not measure, listing those it did.
    """
    calls = run.calls().query("role in ('tuning', 'confirm')")
    if calls.empty:
        return calls
    known = list(dict.fromkeys(calls["side"]))
    if side and side not in known:
        raise ValueError(f"side={side!r} is not measured in this run; measured: {', '.join(known)}")
    side_calls = calls[calls["side"].eq(side or known[0])]
    if not chunk_size:
        sides = run.sides()
        chosen = sides.loc[sides["side"].eq(side or known[0]), "chunk_size"].dropna()
        chunk_size = int(next(iter([*chosen, *side_calls["chunk_size"]])))
    selected = side_calls[side_calls["chunk_size"].eq(chunk_size)]
    if selected.empty:
        sizes = ", ".join(map(str, sorted(side_calls["chunk_size"].unique())))
        raise ValueError(f"chunk_size={chunk_size} is not measured for {side or known[0]}; measured: {sizes}")
    return selected


def change_since(run: Run, other: str = "") -> Markdown:
    """Return what changed since another run of the same plan; empty takes the newest other run in the same outputs."""
    if run.store is None:
        return Markdown("This run is in memory only, so there is no other run to compare it with.")
    if other:
        before = find_run(other, run.store.folder.resolve().parents[1])
    else:
        folder, plan = run.store.folder.resolve(), run.manifest.params_sha256
        others = (store for store in newest_runs(folder.parents[1]) if store.folder.resolve() != folder)
        before = next((store for store in others if store.manifest().params_sha256 == plan), None)
    if before is None:
        return Markdown("No other run of the same plan is recorded. Name one, or repeat this run under another id.")
    try:
        return Markdown(change_markdown(open_change(before, run.store)))
    except ValueError as error:
        return Markdown(f"REFUSED: {safe(str(error))}")
