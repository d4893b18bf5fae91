"""A load record as rows of text, for the terminal and for the page."""

from __future__ import annotations

from scorematrix.compare.statistics import PERCENTILE_SAMPLES, Percentile
from scorematrix.report.formatting import TextTable
from scorematrix.servers.load_figures import PointFigures, in_words, record_figures
from scorematrix.servers.load_records import LoadPoint, LoadRecord, LoadTally

COLUMNS = ("load", "requests/s", "items/s", "p50 ms", "p95 ms", "p99 ms", "refused", "failed", "sent late")


def load_table(record: LoadRecord) -> TextTable:
    """Return one row per point, in the order of measuring."""
    objective, shape = record.objective_seconds, record.workload
    columns = [*COLUMNS, *([] if objective is None else [f"in {objective * 1e3:g} ms, /s"])]
    caption = f"{record.server} under load: {shape.n_items:g} items per request, {shape.tokens:g} tokens"
    return TextTable(caption, columns, [_row(figures) for figures in record_figures(record)], (0, 7))


def load_notes(record: LoadRecord) -> list[str]:
    """Return notes on the points: rejected requests, shortfalls, generator limits, faults."""
    parts = ["latency counts from the scheduled start; [lowest, highest window]; ~: few samples"]
    if record.bad_every:
        rejected = sum(point.totals.rejected for point in record.points)
        parts.append(f"{rejected:,} malformed requests were mixed in, and the server rejected them as required")
    if record.ceiling is not None:
        parts.append(f"the generator reaches {record.ceiling.requests_per_second:,.0f} requests/s on this machine")
    for figures in record_figures(record):
        point, load = figures.point, load_words(figures.point)
        if figures.shortfall:
            parts.append(f"{load}: not sustained: {figures.shortfall}")
        if figures.limited_by_generator:
            parts.append(f"{load}: GENERATOR-LIMITED: {figures.limited_by_generator}")
        if point.surplus:
            parts.append(f"{load}: {point.surplus} answers without a request")
        parts += [f"{load}: {kind}: {messages[0]}" for kind, messages in point.faults.items()]
    return parts


def point_line(point: LoadPoint) -> str:
    """Return the line that reports a finished point."""
    totals = point.totals
    return (
        f"{load_words(point)}: {in_words(point.requests_per_second)} requests/s, {totals.answered:,} answered, "
        f"{totals.refused:,} refused, {totals.n_failed:,} failed"
    )


def load_words(point: LoadPoint) -> str:
    """Return a point's load: concurrent requests, or requests offered per second."""
    return f"{point.concurrency} at once" if point.kind == "closed" else f"{in_words(point.rate or 0)}/s offered"


def _row(figures: PointFigures) -> list[str]:
    point, totals = figures.point, figures.point.totals
    row = [
        load_words(point),
        in_words(figures.requests_per_second),
        in_words(figures.items_per_second),
        *map(_milliseconds, figures.latency),
        f"{totals.refused:,}",
        _failed(totals),
        "" if figures.lag_p99_ns is None else f"{figures.lag_p99_ns / 1e6:.2g} ms",
    ]
    return [*row, *([] if figures.goodput is None else [in_words(figures.goodput)])]


def _failed(totals: LoadTally) -> str:
    parts = [f"{n:,} {kind}" for kind, n in sorted(totals.failed.items())]
    if totals.not_sent:
        parts.append(f"{totals.not_sent:,} not sent")
    return ", ".join(parts) or "0"


def _milliseconds(latency: Percentile) -> str:
    if latency.value is None:
        return f"{latency.n} of {PERCENTILE_SAMPLES[latency.percent][0]} samples"
    interval = (
        ""
        if latency.low is None or latency.high is None
        else f"\n[{in_words(latency.low / 1e6)}, {in_words(latency.high / 1e6)}]"
    )
    return f"{'~' if latency.state == 'wide' else ''}{in_words(latency.value / 1e6)}{interval}"
