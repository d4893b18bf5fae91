"""The report as the notebook builds it: one method a section, each returning what Jupyter displays."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import pandas as pd

from scorematrix.compare import Comparison, compare_run
from scorematrix.report import (
    accuracy,
    appendix,
    banner,
    figures,
    forest,
    hardware,
    methods,
    scoreboard,
    servers,
    starting,
    trust,
)
from scorematrix.report.elements import Fragment, commands, heading, text
from scorematrix.results import SERVER_VIEW, NoRunYet, Round, ServerStudy, open_run
from scorematrix.results.frames import against_reference, item_scores, request_samples
from scorematrix.workload.workload import Workload

_CONTENTS = (
    ("Verdict", "verdict"),
    ("Scoreboard", "scoreboard"),
    ("Trust", "trust"),
    ("Curves", "curves"),
    ("Latency", "latency"),
    ("Distance to the hardware's limit", "hardware"),
    ("Starting up", "starting"),
    ("Cost", "cost"),
    ("Numerics", "numerics"),
    ("Servers", "servers"),
    ("Run sequence", "sequence"),
    ("Controls", "controls"),
    ("Methods", "methods"),
    ("What this does not show", "limits"),
    ("Reproduce", "reproduce"),
    ("Appendix", "appendix"),
)


SHOWN_WITHOUT_A_RUN = "quick"
"""A recorded run."""


def open_report(run: str | Path = "") -> ReportPage:
    """Return the report of a run folder, id or recorded run, at any moment of the run.

    Args:
        run: empty takes the newest run, and a recorded one while there is none.

    Raises:
        ValueError: for a run that is unknown or damaged.
    """
    try:
        store, is_recorded = open_run(run), False
    except NoRunYet:
        store, is_recorded = open_run(SHOWN_WITHOUT_A_RUN), True
    rounds, workload = store.rounds(), store.workload()
    comparison = compare_run(store.manifest(), workload, store.readiness(), rounds)
    return ReportPage(comparison, rounds, workload, tuple(store.studies()), is_recorded)


@dataclass(frozen=True)
class ReportPage:
    """A judged run and its sections.

    Attributes:
        is_recorded: whether this is a recorded run, shown because there is no other yet.
    """

    comparison: Comparison
    rounds: list[Round]
    workload: Workload
    studies: tuple[ServerStudy, ...] = ()
    is_recorded: bool = False

    @cached_property
    def samples(self) -> pd.DataFrame:
        """One row a timed request, see `results.frames`."""
        return request_samples(self.rounds)

    @cached_property
    def scores(self) -> pd.DataFrame:
        """One row an item and label, see `results.frames`."""
        return item_scores(self.rounds, self.workload)

    @cached_property
    def compared(self) -> pd.DataFrame:
        """The last scores of every side beside the reference, see `results.frames`."""
        return against_reference(self.scores)

    def top(self) -> Fragment:
        """Title, banner, contents, verdicts."""
        has_servers = any(side.view == SERVER_VIEW for side in self.comparison.sides)
        listed = [(name, anchor) for name, anchor in _CONTENTS if has_servers or anchor != "servers"]
        links = "".join(f'<li><a href="#{anchor}">{text(name)}</a></li>' for name, anchor in listed)
        contents = Fragment(f'<nav aria-label="Contents"><ul>{links}</ul></nav>')
        drawn = banner.verdicts(self.comparison) + forest.forest(self.comparison)
        return self._hint() + banner.banner(self.comparison) + contents + drawn

    def _hint(self) -> Fragment:
        if not self.is_recorded:
            return Fragment("")
        words = "You have no run yet: `make report` makes one. This recorded run ships with the clone."
        return Fragment(f'<p class="note">{commands(words)}</p>')

    def scoreboard(self) -> Fragment:
        """Who does how much."""
        return scoreboard.scoreboard(self.comparison)

    def trust(self) -> Fragment:
        """Why the times may be believed: gates and the evidence of each verdict."""
        return trust.gates(self.comparison)

    def curves(self) -> Fragment:
        """Throughput by chunk size, side by side and paired."""
        head = heading("Curves", "curves")
        return head + figures.chunk_curves(self.comparison) + figures.paired_curves(self.comparison)

    def latency(self) -> Fragment:
        """Throughput against latency, and the distribution."""
        drawn = figures.throughput_latency(self.comparison) + figures.latency_ecdf(self.comparison, self.samples)
        return heading("Latency", "latency") + drawn

    def servers(self) -> Fragment:
        """What each live server is, what happened to it, and what it gets wrong; empty without one."""
        return servers.servers(self.comparison, self.rounds, self.studies)

    def hardware(self) -> Fragment:
        """How near each side comes to what the hardware gives."""
        return hardware.hardware(self.comparison)

    def starting(self) -> Fragment:
        """What is paid before the first request, and for a million items."""
        return starting.starting(self.comparison) + starting.cost(self.comparison)

    def numerics(self) -> Fragment:
        """How far scores are from the reference, from what neighbours change, and on which items."""
        drawn = accuracy.numerics(self.comparison, self.compared) + accuracy.accuracy_table(self.comparison)
        worst = accuracy.worst_items(self.comparison, self.compared)
        return heading("Numerics", "numerics") + drawn + worst + trust.isolation(self.comparison)

    def sequence(self) -> Fragment:
        """Rounds in order of execution, tuning effort, and the controls."""
        head = heading("Run sequence", "sequence")
        drawn = figures.run_sequence(self.comparison, self.samples) + trust.effort(self.comparison)
        return head + drawn + trust.controls(self.comparison)

    def methods(self) -> Fragment:
        """How it was measured, and what that does not show."""
        return methods.methods(self.comparison)

    def appendix(self) -> Fragment:
        """How to do it again, and everything that was recorded, collapsed."""
        commits = [r.environment.git_commit for r in self.rounds if r.environment]
        again = methods.reproduce(self.comparison, next(iter(commits), None))
        return again + appendix.appendix(self.comparison, self.rounds)

    def notices(self) -> Fragment:
        """The skips once more."""
        return banner.notices_again(self.comparison)
