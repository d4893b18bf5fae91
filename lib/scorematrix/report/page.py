"""The report's text and tables: each method returns a section for Jupyter to display."""

from __future__ import annotations

from dataclasses import dataclass

from scorematrix.analysis.opened import EXAMPLE_HINT, Run
from scorematrix.report import appendix, banner, methods, preflight, trust
from scorematrix.report.html import Fragment
from scorematrix.wings import wing

NAMED = ("jax", "torch", "transformers", "vllm", "libtpu")
"""Packages whose versions the summary shows."""


@dataclass(frozen=True)
class ReportPage:
    """The report sections of a run. `Run` has its frames, and `plots` its figures."""

    run: Run

    def summary(self) -> Fragment:
        """Return the first screen: what is missing, the verdicts, what was measured, the contents."""
        packages = next((r.environment.packages for r in self.run.records if r.environment), {})
        versions = ", ".join(f"{name} {packages[name]}" for name in NAMED if name in packages)
        return banner.summary(self.run.comparison, versions, EXAMPLE_HINT if self.run.is_example else "")

    def compiled(self) -> Fragment:
        """Return compiler results for cells that cannot run here; empty if nothing was compiled."""
        compiled = self.run.comparison.compiled
        return preflight.compiled_table(self.run.comparison) + preflight.estimates_section(compiled)

    def evidence(self) -> Fragment:
        """Return how many gates each verdict has passed; folded below, each gate with its finding."""
        return trust.evidence(self.run.comparison)

    def servers(self) -> Fragment:
        """Return each live server's settings, events and faults; empty without one."""
        if (servers := wing("servers")) is None:
            return Fragment("")
        return servers.servers_section(self.run.comparison, self.run.records, self.run.studies)

    def methods(self) -> Fragment:
        """Return how the run was measured, and what that does not show."""
        return methods.methods(self.run.comparison)

    def appendix(self) -> Fragment:
        """Return how to reproduce the run, and everything that was recorded, folded."""
        commits = [r.environment.git_commit for r in self.run.records if r.environment]
        again = methods.reproduce(self.run.comparison, next(iter(commits), None))
        return again + appendix.appendix(self.run.comparison, self.run.records)

    def notices(self) -> Fragment:
        """Return the skip notices again, with every attempt to get the machines."""
        return banner.notices_again(self.run.comparison)
