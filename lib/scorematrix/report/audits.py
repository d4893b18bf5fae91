"""An audit as text, for the terminal and for the page."""

from __future__ import annotations

import shlex

from scorematrix.report.formatting import TextTable
from scorematrix.results.audits import AuditReport

CONTRACT_COLUMNS = ("request", "expected", "status", "state", "answer")


def audit_tables(report: AuditReport) -> list[TextTable]:
    """Return an audit's gates, failed ones first, and a live server's answers, with what the contract expects."""
    gates = sorted(report.gates, key=lambda gate: gate.status != "failed")
    contract = [
        [
            row.case,
            row.wanted,
            "" if row.status is None else str(row.status),
            (f"FAILED: {row.fault}" if row.fault else row.state).replace("_", " "),
            row.answer,
        ]
        for row in report.contract
    ]
    where = f"{report.dtype} on {report.device}, {report.model}"
    rows = [[gate.name, gate.status.replace("_", " ").upper(), gate.detail] for gate in gates]
    tables = [
        TextTable(f"{report.backend}: audit gates ({where})", ("gate", "state", "finding"), rows, range(3)),
        TextTable(f"{report.backend}: the contract", CONTRACT_COLUMNS, contract, (0, 1, 3, 4)),
    ]
    return tables if contract else tables[:1]


def replay_lines(report: AuditReport) -> list[str]:
    """Return what repeats each fault: a command per request to a live server, the bodies that a backend got.

    A fault that takes several requests has a line for each, in order.
    """
    shown = {row.request: row.case for row in report.contract if row.state == "fault"}
    for gate in report.gates:  # a gate repeats the contract's first fault: it is shown once
        if gate.status == "failed" and gate.request:
            shown.setdefault(gate.request, gate.name)
    head = f"curl -s {report.url} -H 'Content-Type: application/json' -d "
    lines = []
    for requests, name in shown.items():
        bodies = requests.split("\n")
        for n, body in enumerate(bodies, 1):
            what = f"{name}, request {n} of {len(bodies)}" if len(bodies) > 1 else name
            if " more ..." in body:
                lines.append(f"{what}, body shortened: {body}")
            else:
                lines.append(f"{what}: {body if report.url is None else head + shlex.quote(body)}")
    return lines


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
