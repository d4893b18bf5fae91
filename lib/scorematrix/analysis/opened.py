"""Open a run: its frames, its comparison, and a short description."""

from __future__ import annotations

import html
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd

from scorematrix.analysis import frames, summaries
from scorematrix.compare import Comparison, compare_run
from scorematrix.results import Manifest, NoRunYet, Readiness, Round, RunStore, find_run
from scorematrix.workload.workload import Workload

EXAMPLE = "quick"
"""The recorded run that is shown until there is another."""


EXAMPLE_HINT = "You have no run yet: `make report` makes one. This recorded run ships with the clone."


def open_run(run: str | Path = "", outputs: Path | str = "outputs") -> Run:
    """Open a run, finished or not.

    Args:
        run: a run id under `outputs/runs`, a run folder, or the name of a recorded run under `outputs/reference`.
            Empty takes the newest run, or the recorded run `quick` if there is none.
        outputs: the folder that contains `runs`. For the default, the clone's outputs are searched too.

    Raises:
        ValueError: for an unknown or damaged run, naming it; for an unknown one, also the known runs.
    """
    try:
        store, is_example = find_run(run, outputs), False
    except NoRunYet:
        store, is_example = find_run(EXAMPLE), True
    documents = store.manifest(), store.workload(), store.readiness(), store.rounds()
    return Run(*documents, tuple(store.studies()), store, is_example)


@dataclass(frozen=True, eq=False, repr=False)
class Run:
    """A run and its frames, as of the moment it was opened.

    Attributes:
        records: the rounds as they were recorded, in order of execution.
        studies: audits and load records of live servers.
        store: the run folder; None for a run that is in memory only.
        is_example: whether this recorded run is shown because there is no other run yet.
    """

    manifest: Manifest
    workload: Workload
    readiness: Readiness
    records: list[Round]
    studies: tuple[Any, ...] = ()
    store: RunStore | None = None
    is_example: bool = False

    @cached_property
    def comparison(self) -> Comparison:
        """The judged run, as in comparison.json."""
        return compare_run(self.manifest, self.workload, self.readiness, self.records)

    # The frames; each says in its docstring what a row is.
    verdicts, skips, gates, controls = summaries.verdicts, summaries.skips, summaries.gates, summaries.controls
    sides, cells, matched, startup = summaries.sides, summaries.cells, summaries.matched, summaries.startup
    speedups, profile = summaries.speedups, summaries.profile
    requests, rates, last_scores = frames.requests, frames.rates, frames.last_scores

    def calls(self) -> pd.DataFrame:
        """Return one row per call; warm-up, control and replaced calls are included and marked. Times in seconds."""
        return self._calls.copy()

    def scores(self) -> pd.DataFrame:
        """Return one row per round, item and label: the probability, and its difference from the reference."""
        return self._scores.copy()

    @cached_property
    def _calls(self) -> pd.DataFrame:
        return frames.calls(self)

    @cached_property
    def _scores(self) -> pd.DataFrame:
        return frames.scores(self)

    def side_name(self, backend: str, view: str, target: str) -> str:
        """Return the short name of a side, with the target if the run has several."""
        several = len({p.target for p in self.manifest.plan if p.role in ("tuning", "confirm")}) > 1
        named = (side.name for side in self.comparison.sides if side.key == (backend, view, target))
        return next(named, f"{backend} {view}") + (f" on {target}" if several else "")

    def key_of(self, of: Any) -> tuple[str, str, str, str]:
        """Return what identifies the side of a record in the frames: name, backend, view, target."""
        return self.side_name(of.backend, of.view, of.target), of.backend, of.view, of.target

    def __repr__(self) -> str:
        c = self.comparison
        lines = [f"Run {c.run_id}: {c.params['model']}, workload {c.workload.name}, {c.created_utc[:10]}, {c.machine}"]
        lines.append(f"  {c.rounds_done} of {c.rounds_planned} rounds{', PARTIAL' if c.partial else ''}")
        lines += [f"  {notice.text}" for notice in c.notices]
        lines += [f"  {contrast.sentence}" for contrast in c.contrasts]
        lines.append(f"  frames: {', '.join(f'{name}()' for name in FRAMES)}")
        if self.is_example:
            lines.append(f"  {EXAMPLE_HINT}")
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        return f'<pre class="run">{html.escape(repr(self))}</pre>'


FRAMES = ("verdicts", "skips", "gates", "controls", "sides", "cells", "matched", "speedups", "startup", "profile",
          "calls", "requests", "rates", "scores", "last_scores")  # fmt: skip
