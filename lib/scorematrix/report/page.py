"""The report as the notebook builds it: one method a section, each returning what Jupyter displays."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import pandas as pd

from scorematrix.compare import Comparison, compare_run
from scorematrix.report import banner, figures, tables
from scorematrix.report.elements import Fragment, heading, text
from scorematrix.results import Round, open_run
from scorematrix.results.frames import item_scores, request_samples
from scorematrix.workload.workload import Workload

_CONTENTS = (
    ("Verdict", "verdict"),
    ("Scoreboard", "scoreboard"),
    ("Gates", "gates"),
    ("Curves", "curves"),
    ("Numerics", "numerics"),
    ("Methods", "methods"),
    ("Reproduce", "reproduce"),
)


def open_report(run: str | Path) -> ReportPage:
    """The report of a run folder or id, at any moment of the run.

    Raises:
        ValueError: for a run that is unknown or damaged.
    """
    store = open_run(run)
    rounds, workload = store.rounds(), store.workload()
    return ReportPage(compare_run(store.manifest(), workload, store.readiness(), rounds), rounds, workload)


@dataclass(frozen=True)
class ReportPage:
    """A judged run and its sections."""

    comparison: Comparison
    rounds: list[Round]
    workload: Workload

    @cached_property
    def samples(self) -> pd.DataFrame:
        """One row a timed request, see `results.frames`."""
        return request_samples(self.rounds)

    @cached_property
    def scores(self) -> pd.DataFrame:
        """One row an item and label, see `results.frames`."""
        return item_scores(self.rounds, self.workload)

    def top(self) -> Fragment:
        """Title, banner, contents, verdicts."""
        links = "".join(f'<li><a href="#{anchor}">{text(name)}</a></li>' for name, anchor in _CONTENTS)
        contents = Fragment(f'<nav aria-label="Contents"><ul>{links}</ul></nav>')
        return banner.banner(self.comparison) + contents + banner.verdicts(self.comparison)

    def scoreboard(self) -> Fragment:
        return tables.scoreboard(self.comparison) + tables.speedup_table(self.comparison)

    def gates(self) -> Fragment:
        return tables.gates(self.comparison)

    def curves(self) -> Fragment:
        """Throughput by chunk size, and every cell as a table."""
        return heading("Curves", "curves") + figures.chunk_curves(self.comparison) + tables.chunk_table(self.comparison)

    def latency(self) -> Fragment:
        """Throughput against latency, and the distribution."""
        return figures.throughput_latency(self.comparison) + figures.latency_ecdf(self.comparison, self.samples)

    def sequence(self) -> Fragment:
        """Rounds in order of execution, ceilings and compile times."""
        below = tables.ceilings_table(self.comparison) + tables.compile_table(self.comparison)
        return figures.run_sequence(self.comparison, self.samples) + below

    def numerics(self) -> Fragment:
        drawing = figures.numerics(self.comparison, self.scores)
        return heading("Numerics", "numerics") + drawing + tables.accuracy_table(self.comparison)

    def methods(self) -> Fragment:
        return tables.methods(self.comparison)

    def reproduce(self) -> Fragment:
        commits = [r.environment.git_commit for r in self.rounds if r.environment]
        return tables.reproduce(self.comparison, next(iter(commits), None))

    def notices(self) -> Fragment:
        return banner.notices_again(self.comparison)
