"""Figures of one round as plain values, so that a round's process does not import data frames."""

from __future__ import annotations

import statistics
from dataclasses import dataclass

from scorematrix.results.cells import CellStatus, PassSamples
from scorematrix.results.schema import Round


@dataclass(frozen=True)
class CellFigures:
    """Summary of a cell: rate over the timed passes, median seconds per request, number of timed requests."""

    name: str
    status: CellStatus
    error: str | None
    items_per_second: float | None
    median_request_seconds: float | None
    n_requests: int


def pass_seconds(passes: PassSamples) -> list[float]:
    """Return the seconds of each pass, over all calls of all requests."""
    return [sum(map(sum, one_pass)) / 1e9 for one_pass in passes]


def request_seconds(passes: PassSamples) -> list[float]:
    """Return the seconds of each request of each pass, over all its calls."""
    return [sum(calls) / 1e9 for one_pass in passes for calls in one_pass]


def cell_figures(round_: Round) -> list[CellFigures]:
    """Return the figures of each cell, by chunk size. Names of slowed control cells include the slowdown."""
    figures = []
    for cell in sorted(round_.cells, key=lambda c: (c.chunk_size, c.slowdown)):
        name = str(cell.chunk_size) + (f" slowed by {cell.slowdown - 1:.0%}" if cell.slowdown > 1 else "")
        seconds = request_seconds(cell.call_ns)
        if cell.status != "ok" or not seconds:
            figures.append(CellFigures(name, cell.status, cell.error, None, None, 0))
            continue
        rate = sum(map(len, cell.scores)) * len(cell.call_ns) / sum(seconds)
        figures.append(CellFigures(name, "ok", None, rate, statistics.median(seconds), len(seconds)))
    return figures
