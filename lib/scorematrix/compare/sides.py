"""What is said of one side on its own: speed by chunk size, latency, compiling, accuracy."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from scipy import stats

from scorematrix.compare.evidence import SideEvidence, request_seconds, score_arrays
from scorematrix.compare.numerics import RequestArrays, distance
from scorematrix.compare.schema import ChunkResult, PercentileValue, Side
from scorematrix.compare.statistics import PERCENTILE_SAMPLES, geometric_interval, percentile
from scorematrix.results.schema import Cell, Manifest, TargetState
from scorematrix.workload.workload import Workload


def summarise_side(
    side: SideEvidence,
    skip: TargetState | None,
    manifest: Manifest,
    reference: RequestArrays | str,
    workload: Workload,
) -> Side:
    """Everything a table or figure shows of a side; figures come from confirmation rounds only."""
    own = [p for p in manifest.plan if (p.backend, p.view, p.target) == (side.backend, side.view, side.target)]
    record = next((r.record for r in side.rounds if r.record), None)
    setups = [r.setup for r in side.rounds if r.setup]
    # Cold, where a round compiled cold: the first start is what a deployment waits for.
    slowest = max(setups, key=lambda s: s.prepare_seconds, default=None)
    cells = [cell for r in side.confirm for cell in r.cells if cell.status == "ok"]
    ceiling = _median(r.ceilings.matmul_flops_per_second for r in side.rounds if r.ceilings)
    floor = manifest.floor_flops / ceiling if manifest.floor_flops and ceiling else None
    away = [] if isinstance(reference, str) else [distance(score_arrays(cell), reference) for cell in cells]
    return Side(
        backend=side.backend,
        framework=record.framework if record else side.backend,
        view=side.view,
        target=side.target,
        state=_state(side, skip, len(own)),
        device=record.device if record else None,
        dtype=record.dtype if record else None,
        precision=record.precision if record else None,
        fallbacks=record.fallbacks if record else [],
        n_rounds=len(side.rounds),
        n_rounds_planned=len(own),
        best_chunk=side.best_chunk,
        chunks=[_chunk(side, chunk, workload, floor) for chunk in side.chunk_sizes],
        matmul_flops_per_second=ceiling,
        copy_bytes_per_second=_median(r.ceilings.copy_bytes_per_second for r in side.rounds if r.ceilings),
        compile_seconds=slowest.prepare_seconds if slowest else None,
        n_programs=len(slowest.compiles) if slowest else 0,
        from_cache=sum(c.from_cache for c in slowest.compiles) if slowest else 0,
        max_difference=max((d.max for d in away), default=None),
        mean_difference=max((d.mean for d in away), default=None),
        auc=_auc(cells[-1], workload) if cells else None,
    )


def _state(side: SideEvidence, skip: TargetState | None, n_planned: int) -> str:
    if skip is not None:
        return "skipped"
    if not side.rounds:
        return "not_started"
    if not side.sound_cells():
        return "failed"
    return "measured" if len(side.rounds) == n_planned else "partial"


def _median(values: Iterable[float]) -> float | None:
    found = list(values)
    return float(np.median(found)) if found else None


def _chunk(side: SideEvidence, chunk: int, workload: Workload, floor_seconds: float | None) -> ChunkResult:
    if faults := side.faults(chunk):
        statuses = [c.status for r in side.rounds if (c := r.cell(chunk)) and c.status != "ok"]
        return ChunkResult(chunk_size=chunk, status=statuses[0] if statuses else "failed", error=faults[0])
    seconds = list(side.seconds_by_round(chunk).values())
    if not seconds:
        return ChunkResult(chunk_size=chunk, status="not_run", error="no confirmation round is recorded yet")
    rate = geometric_interval([workload.n_items / s for s in seconds])
    cells: list[Cell] = [cell for r in side.confirm if (cell := r.cell(chunk)) is not None]
    samples = [s for cell in cells for s in request_seconds(cell)]
    known = len(seconds) > 1
    return ChunkResult(
        chunk_size=chunk,
        status="ok",
        n_rounds=len(seconds),
        items_per_second=rate.center,
        items_per_second_low=rate.low if known else None,
        items_per_second_high=rate.high if known else None,
        floor_fraction=floor_seconds * rate.center / workload.n_items if floor_seconds else None,
        latency=[_percentile(samples, percent, len(seconds)) for percent in PERCENTILE_SAMPLES],
        peak_host_bytes=max((c.peak_host_bytes for c in cells if c.peak_host_bytes is not None), default=None),
    )


def _percentile(samples: list[float], percent: int, n_rounds: int) -> PercentileValue:
    found = percentile(samples, percent, n_rounds)
    return PercentileValue(
        percent=percent,
        state=found.state,
        n=found.n,
        value_seconds=found.value,
        low_seconds=found.low,
        high_seconds=found.high,
    )


def _auc(cell: Cell, workload: Workload) -> float | None:
    """Area under the ROC curve of the first label against gold, the mean over requests that have both answers.

    The rank statistic of Mann and Whitney; half is chance.
    """
    found = []
    for rows, request in zip(score_arrays(cell), workload.requests):
        if request.gold is None:
            continue
        right = np.asarray(request.gold) == 0
        if right.any() and not right.all():
            u = stats.mannwhitneyu(rows[right, 0], rows[~right, 0]).statistic
            found.append(u / (right.sum() * (~right).sum()))
    return float(np.mean(found)) if found else None
