"""What one side of a comparison has to show: its rounds, turned into times and scores."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from scorematrix.compare.numerics import Caps, RequestArrays, caps_for
from scorematrix.compare.statistics import geometric_interval, percentile
from scorematrix.results.schema import Cell, Round

GUARDRAIL_P95 = 1.25
"""A chunk size whose p95 latency is more than this times the lowest is not chosen (rule 25)."""


def pass_seconds(cell: Cell) -> list[float]:
    """Seconds of each timed pass: all calls of all requests."""
    return [sum(sum(calls) for calls in one_pass) / 1e9 for one_pass in cell.call_ns]


def request_seconds(cell: Cell) -> list[float]:
    """Seconds of each timed request: all its items, one call after the other."""
    return [sum(calls) / 1e9 for one_pass in cell.call_ns for calls in one_pass]


def score_arrays(cell: Cell) -> RequestArrays:
    """The cell's scores as one array a request."""
    return [np.asarray(rows, dtype=np.float64) for rows in cell.scores]


@dataclass(frozen=True)
class SideEvidence:
    """The recorded rounds of one (backend, view, target), in order of their index."""

    backend: str
    view: str
    target: str
    rounds: tuple[Round, ...]

    @property
    def tuning(self) -> list[Round]:
        return [r for r in self.rounds if r.role == "tuning"]

    @property
    def confirm(self) -> list[Round]:
        return [r for r in self.rounds if r.role == "confirm"]

    @property
    def chunk_sizes(self) -> list[int]:
        return sorted({cell.chunk_size for r in self.rounds for cell in r.cells})

    @property
    def caps(self) -> Caps:
        """The accuracy caps of this side's number format and device."""
        dtype = next((r.record.dtype for r in self.rounds if r.record), "float32")
        return caps_for(dtype, on_cpu=self.target == "cpu")

    @property
    def reuses_prefix(self) -> bool:
        """Whether it was asked to keep queries' keys and values, and so computes less than a call asks."""
        return any(r.record.settings.get("reuse_prefix") for r in self.rounds if r.record)

    def sound_cells(self) -> list[tuple[Round, Cell]]:
        """Every cell that has scores, with its round."""
        return [(r, cell) for r in self.rounds for cell in r.cells if cell.status == "ok"]

    def faults(self, chunk_size: int) -> list[str]:
        """Why a chunk size is not eligible: each failed cell, each compile while the clock ran."""
        found = []
        for round_ in self.rounds:
            cell = round_.cell(chunk_size)
            if cell is not None and cell.status != "ok":
                found.append(f"{round_.name} chunk {chunk_size} {cell.status}: {cell.error}")
            elif cell is not None and cell.compiles_in_window:
                found.append(f"{round_.name} chunk {chunk_size}: {cell.compiles_in_window} compiles while timed")
        return found

    @cached_property
    def best_chunk(self) -> int | None:
        """The fastest eligible chunk size of the tuning rounds, the smaller of equals; None without one.

        Chosen on tuning rounds and estimated on others: choosing and estimating on the same flatters (rule 25).
        """
        seconds: dict[int, float] = {}
        p95: dict[int, float] = {}
        for chunk_size in self.chunk_sizes:
            cells = [cell for r in self.tuning if (cell := r.cell(chunk_size)) is not None]
            if not cells or self.faults(chunk_size):
                continue
            seconds[chunk_size] = geometric_interval([float(np.median(pass_seconds(c))) for c in cells]).center
            tail = percentile([s for c in cells for s in request_seconds(c)], 95, len(cells))
            if tail.value is not None:
                p95[chunk_size] = tail.value
        eligible = [c for c in seconds if c not in p95 or p95[c] <= GUARDRAIL_P95 * min(p95.values())]
        return min(eligible, key=lambda c: (seconds[c], c), default=None)

    def seconds_by_round(self, chunk_size: int) -> dict[int, float]:
        """Median seconds of a pass, by index of the confirmation round; rounds without a sound cell are absent."""
        found = {}
        for round_ in self.confirm:
            cell = round_.cell(chunk_size)
            if cell is not None and cell.status == "ok" and not cell.compiles_in_window:
                found[round_.index] = float(np.median(pass_seconds(cell)))
        return found


def paired_ratios(over: dict[int, float], under: dict[int, float]) -> list[float]:
    """The first's seconds over the second's, of every round index that both have."""
    return [over[index] / under[index] for index in sorted(over.keys() & under.keys())]


def gather(rounds: Sequence[Round], backend: str, view: str, target: str) -> SideEvidence:
    """The side's rounds out of all rounds of a run."""
    own = [r for r in rounds if (r.backend, r.view, r.target) == (backend, view, target) and r.role != "reference"]
    return SideEvidence(backend, view, target, tuple(sorted(own, key=lambda r: r.index)))
