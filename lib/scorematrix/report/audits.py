"""An audit as text, for the terminal and for the page."""

from __future__ import annotations

import shlex

from scorematrix.results.audits import AuditReport


def replay_lines(report: AuditReport) -> list[str]:
    """Return, for every fault of a live server, the command that reproduces it."""
    if report.url is None:
        return []
    shown = {row.request: row.case for row in report.contract if row.state == "fault"}
    for gate in report.gates:  # a gate repeats the contract's first fault: it is shown once
        if gate.status == "failed" and gate.request:
            shown.setdefault(gate.request, gate.name)
    head = f"curl -s {report.url} -H 'Content-Type: application/json' -d"
    return [
        f"{name}, body shortened: {request}" if " more ..." in request else f"{name}: {head} {shlex.quote(request)}"
        for request, name in shown.items()
    ]


def audit_sentence(report: AuditReport) -> str:
    """Return the verdict in a sentence."""
    failed = [gate.name for gate in report.gates if gate.status == "failed"]
    waiting = [gate.name for gate in report.gates if gate.status == "not_run"]
    verdict = {
        "sound": f"SOUND, all {len(report.gates)} gates passed",
        "unsound": f"UNSOUND, failed: {', '.join(failed)}",
        "not_proved": f"NOT PROVED, no gate failed, but these did not run: {', '.join(waiting)}",
    }[report.verdict]
    return f"{report.backend} {report.view}: {verdict}"
