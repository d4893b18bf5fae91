"""Recorded runs, to dig in: every cell, every item, every raw sample, and what changed from one run to another."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import pandas as pd

from scorematrix.compare import Comparison, Side, compare_run
from scorematrix.report.change import change_page, open_change
from scorematrix.report.elements import Fragment, paragraph
from scorematrix.report.ink import NONE
from scorematrix.report.live import follow_run
from scorematrix.report.samples import samples_page
from scorematrix.results import OUTPUTS, NoRunYet, Round, RunStore, newest_runs, open_run
from scorematrix.results.frames import item_scores

NO_RUN = "No run is recorded yet: `make report` makes one."


def open_recorded(run: str = "", outputs: Path = OUTPUTS) -> Recorded:
    """The named run, or the newest under outputs/runs.

    Raises:
        ValueError: for a name that is no run.
    """
    try:
        return Recorded(open_run(run, outputs), outputs)
    except NoRunYet:
        return Recorded(None, outputs)


@dataclass(frozen=True)
class Recorded:
    """A run to look into. Where none is recorded yet, everything says so."""

    store: RunStore | None
    outputs: Path = OUTPUTS

    @cached_property
    def comparison(self) -> Comparison:
        store = self._store()
        return compare_run(store.manifest(), store.workload(), store.readiness(), self.rounds)

    @cached_property
    def rounds(self) -> list[Round]:
        return self._store().rounds()

    def progress(self, follow_seconds: float = 0.0) -> None:
        """Where the run is; shown anew for so long while it goes on."""
        follow_run(self.store, follow_seconds)

    def cells(self) -> pd.DataFrame | Fragment:
        """Every measured cell: items per second, and the share of the floor, the least time the hardware allows."""
        if self.store is None:
            return paragraph(NO_RUN)
        rows = [
            (side.backend, side.view, side.target, cell.chunk_size, cell.items_per_second, cell.floor_fraction)
            for side in self.comparison.sides
            for cell in side.chunks
            if cell.status == "ok"
        ]
        columns = ["backend", "view", "target", "chunk_size", "items_per_second", "of_peak"]
        frame = pd.DataFrame(rows, columns=columns).round(3)
        return frame.astype({"of_peak": object}).fillna({"of_peak": NONE})

    def items(self, contains: str = "", most: int = 12) -> pd.DataFrame | Fragment:
        """Items with the first label's probability by every side beside the reference's, the least alike first.

        Args:
            contains: only items whose text holds this, upper and lower case alike.
        """
        if self.store is None:
            return paragraph(NO_RUN)
        chosen = {(s.backend, s.view, s.target): s.best_chunk for s in self.comparison.sides}
        # One round a side is enough to look at, the newest: gates compare them all.
        newest = {(r.backend, r.view, r.target): r for r in self.rounds if r.role in ("confirm", "reference")}
        scores = item_scores(newest.values(), self.store.workload())
        scores = scores[scores["label"].eq(scores.groupby("request")["label"].transform("first"))]
        keys = list(zip(scores["backend"], scores["view"], scores["target"], strict=True))
        scores = scores.assign(
            side=[f"{k[0]} {k[1]}" if k in chosen else "reference" for k in keys],
            wanted=[chosen.get(k, size) == size for k, size in zip(keys, scores["chunk_size"], strict=True)],
        )
        # Synthetic workloads have neither text nor gold.
        told = [name for name in ("text", "gold") if bool(scores[name].notna().any())]
        scores = scores[scores["wanted"]].fillna(dict.fromkeys(told, ""))
        if scores.empty:
            return paragraph("No score is recorded yet.")
        if contains and "text" not in told:
            return paragraph("The items of this run have no text: its workload is synthetic.")
        if contains:
            scores = scores[scores["text"].str.contains(contains, case=False, regex=False)]
        table = scores.pivot_table("probability", ["request", "item", *told], "side", aggfunc="first")
        apart = (table.max(axis=1) - table.min(axis=1)).rename("apart")
        return (
            table.assign(apart=apart)
            .sort_values("apart", ascending=False)
            .head(most)
            .reset_index()
            .rename_axis(columns=None)
        )

    def samples(self, side: str = "", chunk_size: int = 0) -> Fragment:
        """Every raw sample of one cell, warm-up beside it.

        Args:
            side: `backend.view.target`, jax.portable.cpu say; the first measured one where empty.
            chunk_size: the side's chosen one where 0.

        Raises:
            ValueError: for a side or chunk size that the run does not have.
        """
        if self.store is None:
            return paragraph(NO_RUN)
        sides = {f"{s.backend}.{s.view}.{s.target}": s for s in self.comparison.sides if s.chunks}
        if not sides:
            return paragraph("No cell is measured yet.")
        if side and side not in sides:
            raise ValueError(f"side={side!r} is not measured in this run; measured: {', '.join(sides)}")
        name = side or next(iter(sides))
        size = chunk_size or _chosen(sides[name])
        found = sides[name]
        own = [r for r in self.rounds if (r.backend, r.view, r.target) == (found.backend, found.view, found.target)]
        cells = [(r, c) for r in own if r.role != "control" and (c := r.cell(size)) is not None]
        if not cells:
            sizes = ", ".join(str(c.chunk_size) for c in found.chunks)
            raise ValueError(f"chunk_size={size} is not measured for {name}; measured: {sizes}")
        return samples_page(f"{name}, chunk {size}", cells)

    def change_since(self, other: str = "") -> Fragment:
        """What changed since another run of the same plan; since the newest other one where none is named."""
        if self.store is None:
            return paragraph(NO_RUN)
        before = open_run(other, self.outputs) if other else self._earlier()
        if before is None:
            return paragraph("No other run of the same plan is recorded: name one, or repeat this under another id.")
        try:
            return change_page(open_change(before, self.store))
        except ValueError as error:
            return paragraph(f"REFUSED: {error}", "note")

    def _store(self) -> RunStore:
        assert self.store is not None  # whoever asks has said so where no run is recorded
        return self.store

    def _earlier(self) -> RunStore | None:
        """The newest other run of the plan that lies beside this one."""
        store = self._store()
        own, plan = store.folder.resolve(), store.manifest().params_sha256
        others = [store for store in newest_runs(own.parents[1]) if store.folder.resolve() != own]
        return next((store for store in others if store.manifest().params_sha256 == plan), None)


def _chosen(side: Side) -> int:
    return side.best_chunk or side.chunks[0].chunk_size
