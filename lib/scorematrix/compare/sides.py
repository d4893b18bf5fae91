"""Summarise one side: speed by chunk size, latency, compiling, accuracy."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from statistics import median

import numpy as np
from scipy import stats

from scorematrix.compare.evidence import MEASURED, SideEvidence, score_arrays
from scorematrix.compare.gates import moved_by_chunks
from scorematrix.compare.profile import call_profile
from scorematrix.compare.schema import ChunkResult, PercentileValue, Side, SideState, Start, StartKind
from scorematrix.compare.statistics import PERCENTILE_SAMPLES, geometric_interval, percentile
from scorematrix.compare.steady import steadiness
from scorematrix.results.cells import Cell, CellStatus
from scorematrix.results.figures import request_seconds
from scorematrix.results.schema import Manifest, Setup
from scorematrix.results.target_records import Readiness, TargetState
from scorematrix.workload.workload import Workload

WEIGHT_BYTES = {"float32": 4, "bfloat16": 2}
"""A weight is read once a call, and multiplied and added once a token."""
LEAST_ENERGY_SECONDS = 10
"""Shortest window over which a GPU's energy counter is used (rule 39)."""


def summarise_side(
    side: SideEvidence,
    readiness: Readiness,
    manifest: Manifest,
    workload: Workload,
    needed: Collection[str],
) -> Side:
    """Collect everything that a table or figure shows of a side; figures come from confirmation rounds only.

    Args:
        needed: names of the rounds that the run needs for the look that it has reached.
    """
    key = (side.backend, side.view, side.target)
    state = readiness.state(side.target, side.backend)
    skip = readiness.skip(side.target, side.backend)
    planned = [p for p in manifest.plan if (p.backend, p.view, p.target) == key and p.role in MEASURED]
    planned = [p for p in planned if skip is not None or p.name in needed]
    record = next((r.record for r in side.rounds if r.record), None)
    cells = [cell for r in side.confirm for cell in r.cells if cell.status == "ok"]
    ceiling = side.matmul_flops_per_second
    floor = manifest.floor_flops / ceiling if manifest.floor_flops and ceiling else None
    price = (manifest.params.get("prices") or {}).get(side.target)
    steady = steadiness(side)
    confirmed = [c for c in side.compared if c.round.role == "confirm"]
    order = [c.ranking for c in confirmed]
    return Side(
        backend=side.backend,
        framework=record.framework if record else side.backend,
        view=side.view,
        target=side.target,
        software=side.software,
        state=_state(side, skip, len(planned)),
        device=record.device if record else None,
        dtype=record.dtype if record else None,
        precision=record.precision if record else None,
        fallbacks=record.fallbacks if record else [],
        n_rounds=len(side.rounds),
        n_rounds_planned=len(planned),
        best_chunk=side.best_chunk,
        waiting=side.waiting,
        attention=side.attention,
        forms=next((r.forms for r in side.tuning if r.forms), []),
        chunks=[_chunk(side, chunk, workload, manifest, floor) for chunk in side.chunk_sizes],
        matmul_flops_per_second=ceiling,
        copy_bytes_per_second=_median(r.ceilings.copy_bytes_per_second for r in side.rounds if r.ceilings),
        profile=next((call_profile(r.profile, ceiling) for r in side.rounds if r.profile), None),
        datasheet=state.datasheet if state else None,
        starts=starts([r.setup for r in side.rounds if r.setup]),
        max_difference=max((c.distance.max for c in confirmed), default=None),
        mean_difference=max((c.distance.mean for c in confirmed), default=None),
        auc=_auc(cells[-1], workload) if cells else None,
        tau_b=min((r.tau_b for r in order), default=None),
        top_overlap={k: min(r.top_overlap[k] for r in order) for k in order[0].top_overlap} if order else {},
        label_flips=max((r.label_flips for r in order), default=None),
        neighbours_moved=side.neighbours_moved,
        chunks_moved=moved_by_chunks(side) if len(side.chunk_sizes) > 1 and side.sound_cells() else None,
        tuning_configurations=side.tuning_configurations,
        tuning_seconds=side.tuning_seconds,
        steadiness={str(name): n for name, n in steady.classes.items()} if steady else {},
        usd_per_million_items=_cost(side, price["usd_per_hour"]) if price else None,
        watts=_watts(side),
    )


def starts(setups: Iterable[Setup]) -> list[Start]:
    """Return the start-up times of each kind: of the slowest round that compiled, else of the median round (rule 11).

    The kind follows from what happened in the round, not from what the cache should have contained.
    """
    kinds: dict[StartKind, list[Setup]] = {"compiled": [], "from_cache": [], "nothing_to_compile": []}
    for setup in setups:
        anew = any(not c.from_cache for c in setup.compiles)
        kinds["compiled" if anew else "from_cache" if setup.compiles else "nothing_to_compile"].append(setup)
    rows = []
    for kind, of_kind in kinds.items():
        if not of_kind:
            continue
        ordered = sorted(of_kind, key=lambda s: s.prepare_seconds)
        shown = ordered[-1] if kind == "compiled" else ordered[len(ordered) // 2]
        traced, compiled = (sum(getattr(c, f"{name}_seconds") for c in shown.compiles) for name in ("trace", "compile"))
        rows.append(
            Start(
                kind=kind,
                n_rounds=len(of_kind),
                load_seconds=shown.load_model_seconds + shown.load_backend_seconds,
                trace_seconds=traced,
                compile_seconds=compiled,
                other_seconds=max(shown.prepare_seconds - traced - compiled, 0.0),
                n_programs=len(shown.compiles),
            )
        )
    return rows


def _state(side: SideEvidence, skip: TargetState | None, n_planned: int) -> SideState:
    if skip is not None:
        return "skipped"
    if not side.rounds:
        return "not_started"
    if not side.sound_cells():
        return "failed"
    return "measured" if len(side.rounds) >= n_planned else "partial"


def _median(values: Iterable[float]) -> float | None:
    known = list(values)
    return median(known) if known else None


def _cost(side: SideEvidence, usd_per_hour: float) -> float | None:
    """Return dollars per million items at the chosen chunk size (rule 39)."""
    seconds = side.seconds_an_item
    return None if seconds is None else usd_per_hour / 3600 * seconds * 1e6


def _watts(side: SideEvidence) -> float | None:
    """Return the GPUs' mean power while cells were measured, over windows long enough for the energy counter."""
    watts = [
        sum(gpu.energy_joules or 0.0 for gpu in r.noise.gpus) / r.noise.seconds
        for r in side.confirm
        if r.noise and r.noise.seconds >= LEAST_ENERGY_SECONDS and any(gpu.energy_joules for gpu in r.noise.gpus)
    ]
    return _median(watts)


def _chunk(
    side: SideEvidence, chunk: int, workload: Workload, manifest: Manifest, floor_seconds: float | None
) -> ChunkResult:
    if faults := side.faults(chunk):
        statuses: list[CellStatus] = [c.status for r in side.rounds if (c := r.cell(chunk)) and c.status != "ok"]
        return ChunkResult(chunk_size=chunk, status=statuses[0] if statuses else "failed", error=faults[0])
    seconds = list(side.seconds_by_round(chunk).values())
    if not seconds:
        return ChunkResult(chunk_size=chunk, status="not_run", error="no confirmation round is recorded yet")
    rate = geometric_interval([workload.n_items / s for s in seconds])
    cells: list[Cell] = [cell for r in side.confirm if (cell := r.cell(chunk)) is not None]
    samples = [s for cell in cells for s in request_seconds(cell.call_ns)]
    known = len(seconds) > 1
    flops, ceiling = manifest.call_flops.get(chunk), side.matmul_flops_per_second
    computed, real = cells[-1].computed_tokens, manifest.call_tokens.get(chunk)
    speed = flops * rate.center / workload.n_items if flops and not side.reuses_prefix else None
    n_calls, itemsize = side.calls_a_pass(chunk), WEIGHT_BYTES.get(side.dtype)
    return ChunkResult(
        chunk_size=chunk,
        status="ok",
        n_rounds=len(seconds),
        items_per_second=rate.center,
        items_per_second_low=rate.low if known else None,
        items_per_second_high=rate.high if known else None,
        floor_fraction=floor_seconds * rate.center / workload.n_items if floor_seconds else None,
        mfu=speed / ceiling if speed and ceiling else None,
        flops_per_second=speed,
        flops_per_weight_byte=2 * real / n_calls / itemsize if real and n_calls and itemsize else None,
        padding_share=1 - real / computed if computed and real else None,
        latency=[_percentile(samples, percent, len(seconds)) for percent in PERCENTILE_SAMPLES],
        peak_host_bytes=max((c.peak_host_bytes for c in cells if c.peak_host_bytes is not None), default=None),
    )


def _percentile(samples: list[float], percent: int, n_rounds: int) -> PercentileValue:
    result = percentile(samples, percent, n_rounds)
    return PercentileValue(
        percent=percent,
        state=result.state,
        n=result.n,
        value_seconds=result.value,
        low_seconds=result.low,
        high_seconds=result.high,
    )


def _auc(cell: Cell, workload: Workload) -> float | None:
    """Return the ROC AUC of the first label against gold, the mean over requests with both answers.

    Computed as the Mann-Whitney rank statistic; 0.5 is chance.
    """
    areas = []
    for rows, request in zip(score_arrays(cell), workload.requests, strict=True):
        if request.gold is None:
            continue
        right = np.asarray(request.gold) == 0
        if right.any() and not right.all():
            u = stats.mannwhitneyu(rows[right, 0], rows[~right, 0]).statistic
            areas.append(u / (right.sum() * (~right).sum()))
    return float(np.mean(areas)) if areas else None
