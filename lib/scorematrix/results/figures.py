"""A round's figures as plain values, for whoever shows one round: a round's process does not pay for data frames."""

from __future__ import annotations

import statistics
from dataclasses import dataclass

from scorematrix.results.cells import CellStatus, PassSamples
from scorematrix.results.schema import Round


@dataclass(frozen=True)
class CellFigures:
    """A cell in short: its rate over the timed passes, its median seconds a request, how many requests were timed."""

    name: str
    status: CellStatus
    error: str | None
    items_per_second: float | None
    median_request_seconds: float | None
    n_requests: int


def pass_seconds(passes: PassSamples) -> list[float]:
    """Seconds of each pass: all calls of all requests."""
    return [sum(map(sum, one_pass)) / 1e9 for one_pass in passes]


def request_seconds(passes: PassSamples) -> list[float]:
    """Seconds of each request of each pass: all its items, one call after the other."""
    return [sum(calls) / 1e9 for one_pass in passes for calls in one_pass]


def cell_figures(round_: Round) -> list[CellFigures]:
    """One a cell, by chunk size; those of a control round are named by their slowdown too."""
    found = []
    for cell in sorted(round_.cells, key=lambda c: (c.chunk_size, c.slowdown)):
        name = str(cell.chunk_size) + (f" slowed by {cell.slowdown - 1:.0%}" if cell.slowdown > 1 else "")
        seconds = request_seconds(cell.call_ns)
        if cell.status != "ok" or not seconds:
            found.append(CellFigures(name, cell.status, cell.error, None, None, 0))
            continue
        rate = sum(map(len, cell.scores)) * len(cell.call_ns) / sum(seconds)
        found.append(CellFigures(name, "ok", None, rate, statistics.median(seconds), len(seconds)))
    return found
