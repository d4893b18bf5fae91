"""Live servers: settings, events, audit faults and load results."""

from __future__ import annotations

from collections.abc import Sequence

from scorematrix.analysis.style import canvas, describe, empty, legend, side_style
from scorematrix.compare.schema import Comparison, Side
from scorematrix.report.audits import audit_sentence, audit_tables, replay_lines
from scorematrix.report.html import Fragment, bullets, figure, heading, paragraph, table
from scorematrix.results import SERVER_VIEW, Round
from scorematrix.results.audits import AuditReport
from scorematrix.servers.load_figures import load_sentence, record_figures
from scorematrix.servers.load_records import LoadRecord
from scorematrix.servers.load_rows import load_notes, load_table
from scorematrix.servers.studies import ServerStudy

SHOWN_FIRST = ("server_version", "served_model", "protocol", "server_device", "started_by", "start_seconds")
MANY = 12
"""Most events that are listed per server; the rest are counted."""


def servers_section(comparison: Comparison, rounds: Sequence[Round], studies: Sequence[ServerStudy]) -> Fragment:
    """Return the load curves of the run's servers, then a part per server; empty without a server."""
    sides = [side for side in comparison.sides if side.view == SERVER_VIEW]
    by_side = {(study.backend, study.target): study for study in studies}
    loads = [(side, load) for side in sides if (s := by_side.get((side.backend, side.target))) and (load := s.load)]
    parts = load_curves(loads) if loads else Fragment("")
    for side in sides:
        side_rounds = [r for r in rounds if (r.backend, r.view, r.target) == side.key]
        parts += heading(f"{side.name} on {side.target}", server_anchor(side), 3)
        parts += _card(side, side_rounds) + _events(side_rounds)
        parts += _study(by_side.get((side.backend, side.target)), side.backend)
    return heading("Servers", "servers") + parts if sides else Fragment("")


def server_anchor(side: Side) -> str:
    """Return the anchor of a server's part."""
    return f"server-{side.backend}-{side.target}"


def load_curves(loads: Sequence[tuple[Side, LoadRecord]]) -> Fragment:
    """Plot p95 latency against throughput: a line per server for its closed loop, crosses for offered rates."""
    title = "Servers under load"
    drawing, axes = canvas(4.2)
    drawn, spoken = False, []
    for side, record in loads:
        style = side_style(side.backend, side.view)
        for kind in ("closed", "open"):
            points = [f for f in record_figures(record) if f.point.kind == kind and f.p95_ns is not None]
            if not points:
                continue
            points.sort(key=lambda f: f.point.concurrency or f.point.rate or 0)
            x = [f.requests_per_second for f in points]
            y = [f.p95_ns / 1e6 for f in points if f.p95_ns is not None]
            drawn = True
            if kind == "closed":
                axes.plot(x, y, label=f"{side.name}, closed loop", **style)
            else:
                axes.plot(x, y, linestyle="none", marker="x", color=style["color"], label=f"{side.name}, offered")
            spoken += [f"{side.name}, {kind}: {a:.3g} requests/s at {b:.3g} ms." for a, b in zip(x, y, strict=True)]
    if not drawn:
        return figure(empty(title, "no point has enough samples for its p95 latency"))
    axes.set_yscale("log")
    axes.set_xlabel("valid answers per second")
    axes.set_ylabel("p95 latency, ms")
    legend(axes)
    caption = (
        "Latency against throughput: lower and further right is better. Lines: closed loop, with concurrency rising "
        "along the line. Crosses: open loop at a fixed rate, with latency from the scheduled start."
    )
    return figure(describe(drawing, title, " ".join(spoken))) + paragraph(caption, "note")


def _card(side: Side, rounds: Sequence[Round]) -> Fragment:
    """Return a server's settings, as it reports them or as configured."""
    record = next((r.record for r in rounds if r.record), None)
    if record is None:
        why = "it was skipped, see the banner" if side.state == "skipped" else "none of its rounds is recorded"
        return paragraph(f"No data: {why}.")
    names = [*SHOWN_FIRST, *sorted(name for name in record.settings if name not in SHOWN_FIRST)]
    rows = [[name.replace("_", " "), str(record.settings[name])] for name in names if name in record.settings]
    rows += [["number format", record.dtype], ["precision", record.precision]]
    return table(f"{side.backend}: settings", ["setting", "value"], rows, text_columns=(0, 1))


def _events(rounds: Sequence[Round]) -> Fragment:
    events = [[r.name, event] for r in rounds for event in r.events]
    if not rounds:
        return Fragment("")
    if not events:
        return paragraph("The server answered every request of its rounds and was never restarted.", "note")
    left = len(events) - MANY
    note = paragraph(f"{left} more events are in the rounds' files.", "note") if left > 0 else Fragment("")
    return table("Events", ["round", "event"], events[:MANY], text_columns=(0, 1)) + note


def _study(study: ServerStudy | None, backend: str) -> Fragment:
    if study is None:
        return Fragment("")
    parts = Fragment("")
    if study.audit is not None:
        parts += _audit(study.audit)
    if study.load is not None:
        parts += _load(study.load)
    for part, why in study.errors.items():
        parts += paragraph(f"{part} of {backend}: no data, it failed: {why}")
    return parts


def _audit(report: AuditReport) -> Fragment:
    """Return an audit's verdict, its gates, the contract's table, and the commands that reproduce its faults."""
    parts = paragraph(f"Audit of {audit_sentence(report)}.")
    for one in audit_tables(report):
        parts += table(*one)
    if lines := replay_lines(report):
        parts += paragraph("To reproduce each fault while the server runs:", "note") + bullets(lines)
    return parts


def _load(record: LoadRecord) -> Fragment:
    """Return a server's load points with notes."""
    return paragraph(f"{load_sentence(record)}.") + table(*load_table(record)) + bullets(load_notes(record))
