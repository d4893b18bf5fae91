"""Open a run: its frames, its comparison, and a short description."""

from __future__ import annotations

import html
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import pandas as pd

from scorematrix.analysis import frames, summaries
from scorematrix.compare import Comparison, compare_run
from scorematrix.results import Manifest, NoRunYet, Readiness, Round, RunStore, ServerStudy, find_run
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
    studies: tuple[ServerStudy, ...] = ()
    store: RunStore | None = None
    is_example: bool = False

    @cached_property
    def comparison(self) -> Comparison:
        """The judged run, as in comparison.json."""
        return compare_run(self.manifest, self.workload, self.readiness, self.records)

    def verdicts(self) -> pd.DataFrame:
        """Return one row per comparison: who is faster, by how much, how sure, and the next step."""
        return summaries.verdicts(self.comparison)

    def skips(self) -> pd.DataFrame:
        """Return one row per target that could not run: reason, evidence, next step."""
        return summaries.skips(self.comparison)

    def gates(self) -> pd.DataFrame:
        """Return one row per comparison and gate, with its finding."""
        return summaries.gates(self.comparison)

    def controls(self) -> pd.DataFrame:
        """Return one row per control: a side against itself, and against itself slowed."""
        return summaries.controls(self.comparison)

    def sides(self) -> pd.DataFrame:
        """Return one row per side: device, dtype, choices, ceilings, accuracy, cost."""
        return summaries.sides(self.comparison, self._name)

    def cells(self) -> pd.DataFrame:
        """Return one row per side and chunk size: items per second with interval, latency, share of peak."""
        return summaries.cells(self.comparison, self._name)

    def matched(self) -> pd.DataFrame:
        """Return one row per comparison and chunk size: the speed ratio at equal chunk sizes."""
        return summaries.matched(self.comparison)

    def startup(self) -> pd.DataFrame:
        """Return one row per side and kind of start: seconds before the first timed call."""
        return summaries.startup(self.comparison, self._name)

    def speedups(self) -> pd.DataFrame:
        """Return one row per side and baseline: how many times as fast the side is."""
        return summaries.speedups(self.comparison, self._name)

    def profile(self) -> pd.DataFrame:
        """Return one row per side and part of the engine: where the time of one call goes."""
        return summaries.profile(self.comparison, self._name)

    def calls(self) -> pd.DataFrame:
        """Return one row per call; warm-up, control and replaced calls are included and marked. Times in seconds."""
        return self._calls.copy()

    def requests(self) -> pd.DataFrame:
        """Return one row per timed request: all its items at one chunk size."""
        return frames.requests(self._calls)

    def rates(self) -> pd.DataFrame:
        """Return one row per round and chunk size: items per second of its median pass."""
        return frames.rates(self.records, self.workload, self._name)

    def scores(self) -> pd.DataFrame:
        """Return one row per round, item and label: the probability, and its difference from the reference."""
        return self._scores.copy()

    def last_scores(self) -> pd.DataFrame:
        """Return the scores of each side's last confirmation round at its chosen chunk size."""
        return frames.last_scores(self._scores, self.cells())

    @cached_property
    def _calls(self) -> pd.DataFrame:
        return frames.calls(self.records, self.workload, self._name)

    @cached_property
    def _scores(self) -> pd.DataFrame:
        return frames.scores(self.records, self.workload, self._name)

    @property
    def _name(self) -> frames.Namer:
        return frames.side_namer(p.target for p in self.manifest.plan if p.role in ("tuning", "confirm"))

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
