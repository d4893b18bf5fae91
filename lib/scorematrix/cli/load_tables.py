"""Output of `scorematrix load`: a line for each point once it is measured, then the tables."""

from __future__ import annotations

from rich.markup import escape
from rich.table import Table

from scorematrix.compare.load_figures import in_words
from scorematrix.report.load_rows import MLPERF_COLUMNS, load_columns, load_notes, load_rows, load_words, mlperf_rows
from scorematrix.results.load_records import LoadPoint, LoadRecord


def progress_line(point: LoadPoint) -> str:
    """Return the line that reports a finished point."""
    totals = point.totals
    return (
        f"{load_words(point)}: {in_words(point.requests_per_second)} requests/s, {totals.answered:,} answered, "
        f"{totals.refused:,} refused, {totals.n_failed:,} failed"
    )


def load_table(record: LoadRecord) -> Table:
    """Return a table of all points: percentiles, refused and failed requests, and whose limit it is."""
    shape = record.workload
    table = Table(
        title=escape(
            f"{record.server}, {record.model}: {shape.n_items:g} items a request, {shape.tokens:g} tokens, "
            f"{record.points[0].seconds:g} s a point"
            if record.points
            else record.server
        ),
        caption=escape("\n".join(load_notes(record))),
        caption_justify="left",
        title_justify="left",
    )
    for name in load_columns(record):
        table.add_column(name, justify="left" if name in ("load", "failed") else "right")
    for row in load_rows(record):
        table.add_row(*map(escape, row))
    return table


def mlperf_table(record: LoadRecord) -> Table:
    """Return a table of MLPerf LoadGen's verdicts, as LoadGen prints them."""
    title = "MLPerf LoadGen (second opinion), with sequential clients: a few hundred requests/s at most"
    table = Table(*MLPERF_COLUMNS, title=title, title_justify="left")
    for row in mlperf_rows(record):
        table.add_row(*map(escape, row))
    return table
