"""What the command line shows: tables and the closing lines of a run."""

from __future__ import annotations

from collections.abc import Sequence

from rich.markup import escape
from rich.table import Table

from scorematrix.compare.schema import AuditReport, Comparison
from scorematrix.results.schema import Readiness


def closing_lines(comparison: Comparison) -> list[str]:
    """Verdicts and every skip notice, in plain text."""
    done = f"{comparison.rounds_done} of {comparison.rounds_planned} rounds"
    head = "PARTIAL" if comparison.partial else "COMPLETE"
    return [
        f"{head}: {done}, {comparison.workload.n_items} items, {comparison.machine}",
        *(contrast.sentence for contrast in comparison.contrasts),
        *(f"warning: {warning}" for warning in comparison.warnings),
        *(notice.text for notice in comparison.notices),
    ]


def readiness_table(readiness: Readiness) -> Table:
    """Target by backend: ready, or skipped and why."""
    table = Table("target", "backend", "views", "state", "reason", title=escape(readiness.machine))
    for state in readiness.states:
        style = "green" if state.state == "ready" else "yellow"
        table.add_row(
            state.target, state.backend, ", ".join(state.views), f"[{style}]{state.state}[/]", state.reason or ""
        )
    return table


def audit_table(report: AuditReport) -> Table:
    """Every gate of an audit: passed, failed or not run, and what was found."""
    name = f"{report.backend}, {report.view} view, {report.dtype} on {report.device}, {report.model}"
    table = Table("gate", "state", "found", title=escape(name))
    styles = {"passed": "green", "failed": "bold red", "not_run": "yellow"}
    for gate in report.gates:
        state = gate.status.replace("_", " ").upper()
        table.add_row(gate.name, f"[{styles[gate.status]}]{state}[/]", escape(gate.detail))
    return table


def audit_sentence(report: AuditReport) -> str:
    """The verdict in a sentence."""
    failed = [gate.name for gate in report.gates if gate.status == "failed"]
    waiting = [gate.name for gate in report.gates if gate.status == "not_run"]
    words = {
        "sound": f"SOUND, all {len(report.gates)} gates passed",
        "unsound": f"UNSOUND, failed: {', '.join(failed)}",
        "not_proved": f"NOT PROVED, nothing failed, but not run: {', '.join(waiting)}",
    }[report.verdict]
    return f"{report.backend} {report.view}: {words}"


def models_table(rows: Sequence) -> Table:
    """What can be scored with."""
    table = Table("name", "origin", "params", "licence", "here")
    for row in rows:
        table.add_row(row.name, escape(row.origin), row.params, row.license or "", "yes" if row.present else "no")
    return table
