"""Live servers: what each is, what happened to it, what it gets wrong, and what it sustains."""

from __future__ import annotations

from collections.abc import Sequence

from scorematrix.analysis.style import canvas, describe, empty, legend, look
from scorematrix.compare.load import load_sentence, record_figures
from scorematrix.compare.schema import Comparison, Side
from scorematrix.report.audits import audit_sentence, replay_lines
from scorematrix.report.elements import Fragment, bullets, figure, heading, paragraph, table
from scorematrix.report.load import MLPERF_COLUMNS, load_columns, load_notes, load_rows, mlperf_rows
from scorematrix.results import SERVER_VIEW, Round, ServerStudy
from scorematrix.results.audits import AuditReport
from scorematrix.results.load import LoadRecord

SHOWN_FIRST = ("server_version", "served_model", "protocol", "server_device", "started_by", "start_seconds")
MANY = 12
"""Events of a server that are shown; the others are counted."""


def servers(comparison: Comparison, rounds: Sequence[Round], studies: Sequence[ServerStudy]) -> Fragment:
    """One part for each server of the run, and their curves under load; empty where it has none."""
    sides = [side for side in comparison.sides if side.view == SERVER_VIEW]
    found = {(study.backend, study.target): study for study in studies}
    loads = [(side, load) for side in sides if (s := found.get((side.backend, side.target))) and (load := s.load)]
    parts = load_curves(loads) if loads else Fragment("")
    for side in sides:
        own = [r for r in rounds if (r.backend, r.view, r.target) == (side.backend, side.view, side.target)]
        parts += heading(f"{side.backend} on {side.target}", server_anchor(side), 3) + _card(side, own) + _events(own)
        parts += _study(found.get((side.backend, side.target)), side.backend)
    return heading("Servers", "servers") + parts if sides else Fragment("")


def server_anchor(side: Side) -> str:
    """Where a server's part begins."""
    return f"server-{side.backend}-{side.target}"


def load_curves(loads: Sequence[tuple[Side, LoadRecord]]) -> Fragment:
    """Throughput against the p95 latency, a line a server over its closed loop, crosses for offered rates."""
    title = "Servers under load"
    drawing, axes = canvas(4.2)
    drawn, spoken = False, []
    for side, record in loads:
        style = look(side.backend, side.view)
        for kind in ("closed", "open"):
            own = [f for f in record_figures(record) if f.point.kind == kind and f.p95_ns is not None]
            if not own:
                continue
            own.sort(key=lambda f: f.point.concurrency or f.point.rate or 0)
            x = [f.requests_per_second for f in own]
            y = [f.p95_ns / 1e6 for f in own if f.p95_ns is not None]
            drawn = True
            if kind == "closed":
                axes.plot(x, y, label=f"{side.backend}, closed loop", **style)
            else:
                axes.plot(x, y, linestyle="none", marker="x", color=style["color"], label=f"{side.backend}, offered")
            spoken += [f"{side.backend}, {kind}: {a:.3g} requests/s at {b:.3g} ms." for a, b in zip(x, y, strict=True)]
    if not drawn:
        return figure(empty(title, "no point has samples enough for its p95 latency"))
    axes.set_yscale("log")
    axes.set_xlabel("sound answers per second")
    axes.set_ylabel("p95 latency, ms")
    legend(axes)
    words = (
        "Latency against throughput. Lines: closed loop, concurrency rises to the right. Crosses: open loop at a fixed "
        "rate, latency from the scheduled start. Right and low is better."
    )
    return figure(describe(drawing, title, " ".join(spoken))) + paragraph(words, "note")


def _card(side: Side, rounds: Sequence[Round]) -> Fragment:
    """What it says of itself, or was told."""
    record = next((r.record for r in rounds if r.record), None)
    if record is None:
        why = "it was skipped, see the banner" if side.state == "skipped" else "no round of it is recorded"
        return paragraph(f"NOT AVAILABLE: {why}.")
    names = [*SHOWN_FIRST, *sorted(name for name in record.settings if name not in SHOWN_FIRST)]
    rows = [[name.replace("_", " "), str(record.settings[name])] for name in names if name in record.settings]
    rows += [["number format", record.dtype], ["precision", record.precision]]
    return table(f"{side.backend}: what it is", ["what", "as told"], rows, words=(0, 1))


def _events(rounds: Sequence[Round]) -> Fragment:
    found = [[r.name, event] for r in rounds for event in r.events]
    if not rounds:
        return Fragment("")
    if not found:
        return paragraph("It answered every request of its rounds and was never started again.", "note")
    left = len(found) - MANY
    note = paragraph(f"{left} more events stand in the rounds' files.", "note") if left > 0 else Fragment("")
    return table("What happened to it", ["round", "event"], found[:MANY], words=(0, 1)) + note


def _study(study: ServerStudy | None, backend: str) -> Fragment:
    if study is None:
        return Fragment("")
    parts = Fragment("")
    if study.audit is not None:
        parts += _audit(study.audit)
    if study.load is not None:
        parts += _load(study.load)
    for part, why in study.errors.items():
        parts += paragraph(f"{part} of {backend}: NOT AVAILABLE, it broke off: {why}")
    return parts


def _audit(report: AuditReport) -> Fragment:
    """The verdict of its audit, what it gets wrong with the request that shows it, and the contract's table."""
    failed = [[g.name, "FAILED", g.detail] for g in report.gates if g.status == "failed"]
    passed = [[g.name, g.status.replace("_", " ").upper(), g.detail] for g in report.gates if g.status != "failed"]
    parts = paragraph(f"Audit of {audit_sentence(report)}.")
    parts += table(f"{report.backend}: what its audit found", ["gate", "state", "found"], [*failed, *passed], (0, 1, 2))
    rows = [
        [
            row.case,
            row.wanted,
            "" if row.status is None else str(row.status),
            (f"FAILED: {row.fault}" if row.fault else row.state).replace("_", " "),
            row.answer,
        ]
        for row in report.contract
    ]
    if rows:
        columns = ["request", "wanted", "status", "state", "answer"]
        parts += table(f"{report.backend}: the contract", columns, rows, (0, 1, 3, 4))
    if lines := replay_lines(report):
        parts += paragraph("Each fault again, while the server runs:", "note") + bullets(lines)
    return parts


def _load(record: LoadRecord) -> Fragment:
    """Every point of its load, and MLPerf's opinion."""
    shape = record.workload
    caption = f"{record.server} under load: {shape.n_items:g} items a request, {shape.tokens:g} tokens"
    parts = paragraph(f"{load_sentence(record)}.")
    parts += table(caption, load_columns(record), load_rows(record), words=(0, 7)) + bullets(load_notes(record))
    if record.mlperf:
        title = f"{record.server}: MLPerf LoadGen, a second opinion"
        parts += table(title, MLPERF_COLUMNS, mlperf_rows(record), words=(0, 1, 2, 5))
    return parts
