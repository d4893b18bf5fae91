"""Gather the evidence of one side: its rounds as times and scores."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from statistics import median

import numpy as np

from scorematrix.compare.numerics import Caps, Distance, Ranking, RequestArrays, caps_for, distance, ranking
from scorematrix.compare.rounds import is_sound, round_seconds
from scorematrix.compare.statistics import geometric_interval, percentile
from scorematrix.results.cells import Cell
from scorematrix.results.figures import pass_seconds, request_seconds
from scorematrix.results.probes import ReferenceSample
from scorematrix.results.schema import SERVER_VIEW, Round, Waiting

MEASURED = ("tuning", "confirm")
SHORTEST_WINDOW_NS = 1_000_000
"""Below one millisecond, the cost of reading the clock shows (rule 10)."""
GUARDRAIL_P95 = 1.25
"""A chunk size whose p95 latency is more than this times the lowest is not chosen (rule 25)."""
SURELY_FASTER = 0.02
"""A form of attention replaces the engine's default if it shortens a call by more than this share."""


def score_arrays(cell: Cell) -> RequestArrays:
    """Return the cell's scores as one array per request."""
    return [np.asarray(rows, dtype=np.float64) for rows in cell.scores]


@dataclass(frozen=True)
class Compared:
    """A cell's scores compared with the reference's."""

    round: Round
    cell: Cell
    distance: Distance
    ranking: Ranking


@dataclass(frozen=True)
class SideEvidence:
    """The recorded rounds of one (backend, view, target), in order of their index.

    Attributes:
        reference: the float32 one-sequence-per-item scores, or why there are none.
        samples: the reference's scores of drawn tokens.
    """

    backend: str
    view: str
    target: str
    rounds: tuple[Round, ...]
    reference: RequestArrays | str
    samples: tuple[ReferenceSample, ...] = ()

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
    def dtype(self) -> str:
        """The number format of the computation."""
        return next((r.record.dtype for r in self.rounds if r.record), "float32")

    @property
    def caps(self) -> Caps:
        """The accuracy caps of this side's number format and device."""
        return caps_for(self.dtype, on_cpu=self.target == "cpu")

    @property
    def reuses_prefix(self) -> bool:
        """Whether the settings keep queries' keys and values, so that a call computes less than it requests."""
        return any(r.reuses_prefix for r in self.rounds)

    @property
    def software(self) -> str | None:
        """What a live server said that it is, else the program that started it; None if neither is known."""
        if self.view != SERVER_VIEW:
            return None
        settings = next((r.record.settings for r in self.rounds if r.record), {})
        if said := settings.get("software"):
            return str(said)
        found = re.search(r" -m (\w+)(?: serve --backend (\w+))?", str(settings.get("started_by", "")))
        if found is None:
            return None
        return f"{found[1]} serve ({found[2]})" if found[2] else f"{found[1]} server"

    def sound_cells(self) -> list[tuple[Round, Cell]]:
        """Return every cell that has scores, with its round."""
        return [(r, cell) for r in self.rounds for cell in r.cells if cell.status == "ok"]

    @cached_property
    def compared(self) -> list[Compared]:
        """Every sound cell compared with the reference; empty without a reference."""
        if isinstance(self.reference, str):
            return []
        results, known = [], {}
        for round_, cell in self.sound_cells():
            scores = score_arrays(cell)
            # Most rounds of one program give bit-identical scores, so each distinct result is compared once.
            bits = tuple((a.shape, a.tobytes()) for a in scores)
            if bits not in known:
                known[bits] = (
                    distance(scores, self.reference),
                    ranking(scores, self.reference, 2 * self.caps.max),
                )
            results.append(Compared(round_, cell, *known[bits]))
        return results

    def faults(self, chunk_size: int) -> list[str]:
        """Return why a chunk size is not eligible: failed cells, compiles while timed, calls too short to time."""
        reasons = []
        for round_ in self.rounds:
            cell = round_.cell(chunk_size)
            if cell is None:
                continue
            windows = [ns * cell.repeats for one_pass in cell.call_ns for calls in one_pass for ns in calls]
            if cell.status != "ok":
                reasons.append(f"{round_.name} chunk {chunk_size} {cell.status}: {cell.error}")
            elif cell.compiles_in_window:
                reasons.append(f"{round_.name} chunk {chunk_size}: {cell.compiles_in_window} compiles while timed")
            elif windows and median(windows) < SHORTEST_WINDOW_NS:
                reasons.append(
                    f"{round_.name} chunk {chunk_size}: timed windows of {median(windows) / 1e6:.2f} ms, "
                    "at least 1 ms is needed"
                )
        return reasons

    @cached_property
    def _tuned(self) -> tuple[int, Waiting | None] | None:
        """The fastest eligible chunk size and way of waiting in the tuning rounds; of equals, the smaller chunk size.

        Other rounds estimate its time: an estimate from the rounds that chose it would be too good (rule 25).
        """
        seconds: dict[tuple[int, Waiting | None], float] = {}
        ways: dict[Waiting | None, None] = {r.waiting: None for r in self.tuning}
        p95: dict[tuple[int, Waiting | None], float] = {}
        for chunk_size in self.chunk_sizes:
            if self.faults(chunk_size):
                continue
            for waiting in ways:
                cells = [cell for r in self.tuning if r.waiting == waiting and (cell := r.cell(chunk_size)) is not None]
                if not cells:
                    continue
                taken = [median(pass_seconds(c.call_ns)) for c in cells]
                seconds[chunk_size, waiting] = geometric_interval(taken).center
                tail = percentile([s for c in cells for s in request_seconds(c.call_ns)], 95, len(cells))
                if tail.value is not None:
                    p95[chunk_size, waiting] = tail.value
        eligible = [c for c in seconds if c not in p95 or p95[c] <= GUARDRAIL_P95 * min(p95.values())]
        return min(eligible, key=lambda c: (seconds[c], c[0]), default=None)

    @property
    def best_chunk(self) -> int | None:
        """The chunk size that tuning chose; None without an eligible one."""
        return self._tuned[0] if self._tuned else None

    @property
    def waiting(self) -> Waiting | None:
        """How the threads wait, as tuning chose; None without such a thread pool or an eligible chunk size."""
        return self._tuned[1] if self._tuned else None

    @property
    def attention(self) -> str | None:
        """The fastest form of attention in tuning; None unless it clearly beats the engine's default (the first)."""
        seconds: dict[str, list[float]] = {}
        tuned = [r for r in self.tuning if r.waiting == self.waiting and r.forms]
        for form in (form for r in tuned for form in r.forms):
            if form.seconds is not None:
                seconds.setdefault(form.form, []).append(form.seconds)
        taken = {name: geometric_interval(s).center for name, s in seconds.items() if len(s) == len(tuned)}
        if not taken:
            return None
        default, best = tuned[0].forms[0].form, min(taken, key=taken.__getitem__)
        return best if taken[best] < (1 - SURELY_FASTER) * taken.get(default, math.inf) else None

    @cached_property
    def _seconds(self) -> dict[int, dict[int, float]]:
        return {chunk_size: round_seconds(self.confirm, chunk_size) for chunk_size in self.chunk_sizes}

    def seconds_by_round(self, chunk_size: int) -> dict[int, float]:
        """Return median seconds of a pass by index of the confirmation round, without rounds that lack a sound cell."""
        return self._seconds.get(chunk_size, {})

    def fastest_seconds(self, chunk_size: int) -> float:
        """Return the sum of each call's fastest time over all confirmation rounds, in seconds."""
        cells = [cell for r in self.confirm if is_sound(cell := r.cell(chunk_size), r)]
        passes = [[ns for calls in one_pass for ns in calls] for cell in cells for one_pass in cell.call_ns]
        return float(np.min(passes, axis=0).sum()) / 1e9

    def clock_by_round(self) -> dict[int, float]:
        """Return the mean GPU clock (MHz) by index of the confirmation round, without rounds that recorded none."""
        clocks = {r.index: [c for gpu in r.noise.gpus for c in gpu.clock_mhz] for r in self.confirm if r.noise}
        return {index: float(np.mean(readings)) for index, readings in clocks.items() if readings}

    def calls_a_pass(self, chunk_size: int) -> int:
        """Return the number of calls in a pass over the workload at a chunk size; 0 if none was timed."""
        cells = [cell for _, cell in self.sound_cells() if cell.chunk_size == chunk_size and cell.call_ns]
        return sum(map(len, cells[0].call_ns[0])) if cells else 0

    @property
    def neighbours_moved(self) -> float | None:
        """Largest change of a score when its neighbours change, in tuning probes; infinite if any is not finite."""
        moved = [r.probes.neighbours_moved for r in self.tuning if r.probes and r.probes.neighbours_moved is not None]
        return max((m if np.isfinite(m) else np.inf for m in moved), default=None)

    @property
    def matmul_flops_per_second(self) -> float | None:
        """The matmul ceiling that the side measured, the median of its rounds; None if it measured none."""
        ceilings = [r.ceilings.matmul_flops_per_second for r in self.rounds if r.ceilings]
        return median(ceilings) if ceilings else None

    @property
    def cold_prepare_seconds(self) -> float | None:
        """The longest preparation of any round, because a deployment waits for the first start."""
        return max((r.setup.prepare_seconds for r in self.rounds if r.setup), default=None)

    @property
    def seconds_an_item(self) -> float | None:
        """Seconds per item at the chosen chunk size, over the confirmation rounds; None without such rounds."""
        seconds = self.seconds_by_round(self.best_chunk) if self.best_chunk is not None else {}
        if not seconds:
            return None
        n_items = next(sum(map(len, cell.scores)) for _, cell in self.sound_cells())
        return geometric_interval(list(seconds.values())).center / n_items

    @property
    def tuning_configurations(self) -> int:
        """Number of chunk sizes tried in tuning rounds, failed ones included; each in one or two ways of waiting."""
        return len({(r.index, cell.chunk_size) for r in self.tuning for cell in r.cells})

    @property
    def tuning_seconds(self) -> float:
        """Total seconds of the tuning rounds."""
        return sum(r.taken_seconds for r in self.tuning)


def paired_ratios(over: Mapping[int, float], under: Mapping[int, float]) -> dict[int, float]:
    """Return the first's seconds over the second's, for every round index that both have."""
    return {index: over[index] / under[index] for index in sorted(over.keys() & under.keys())}


def gather(
    rounds: Sequence[Round], backend: str, view: str, target: str, reference: RequestArrays | str
) -> SideEvidence:
    """Select the side's rounds from all rounds of a run."""
    measured = [r for r in rounds if (r.backend, r.view, r.target) == (backend, view, target) and r.role in MEASURED]
    samples = tuple(sample for r in rounds for sample in r.samples)
    return SideEvidence(backend, view, target, tuple(sorted(measured, key=lambda r: r.index)), reference, samples)
