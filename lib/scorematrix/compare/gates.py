"""Gates on inputs, device, calls and scores: both sides must pass them before their times may decide."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict
from itertools import chain, repeat

import numpy as np

from scorematrix.compare.evidence import SideEvidence, score_arrays
from scorematrix.compare.numerics import (
    BETWEEN_SIDES,
    Distance,
    Ranking,
    RequestArrays,
    distance,
    identical_items,
)
from scorematrix.results.audits import Gate, GateStatus
from scorematrix.results.schema import Round
from scorematrix.workload.workload import Workload

Sides = Sequence[SideEvidence]


def run_gates(
    sides: Sides,
    workload: Workload,
    same_target: bool,
) -> list[Gate]:
    """Run the gates on inputs, device, calls and scores of one contrast, the most basic first.

    Args:
        sides: both sides of the contrast, or a single side.
        same_target: whether both sides claim the same physical device.
    """
    finite = finite_gate(sides)
    gates = [inputs_gate(sides), calls_gate(sides), finite]
    if same_target:
        gates.insert(1, device_gate(sides))
    if finite.status == "passed":
        gates += [reference_gate(side) for side in sides]
        gates += [between_gate(sides)] if len(sides) > 1 else []
        gates += [ranking_gate(side) for side in sides]
        gates += [isolation_gate(side, workload) for side in sides]
    return gates


def inputs_gate(sides: Sides) -> Gate:
    """Require the same protocol, workload, weights and number format in every round of both sides (rules 30, 31)."""
    fields: dict[str, Callable[[Round], str | None]] = {
        "protocol": lambda r: r.protocol,
        "workload_sha256": lambda r: r.workload_sha256,
        "weights_sha256": lambda r: r.weights_sha256,
        "dtype": lambda r: r.record.dtype if r.record else None,
        "reuse_prefix": lambda r: str(r.record.settings.get("reuse_prefix", 0)) if r.record else None,
    }
    by_value: dict[str | None, str] = {}
    for field, read in fields.items():
        by_value = {read(r): r.name for side in sides for r in side.rounds if r.error is None}
        if len(by_value) > 1:
            different = " and ".join(f"{str(value)[:16]} ({name})" for value, name in by_value.items())
            return Gate(name="inputs", status="failed", detail=f"{field} differs: {different}")
    return _gate(
        "inputs",
        bool(by_value),
        "protocol, workload, weights and dtype are equal on both sides",
        "no round is recorded yet",
    )


def device_gate(sides: Sides) -> Gate:
    """Require the same machine and device: a framework verdict compares nothing else (rule 1).

    On a cluster, several machines measure the rounds of a target. Ratios are taken within an index, so both rounds of
    an index need one machine and the same cores. The machines must be alike, because one of them chose the chunk size.
    """
    known = [(r, r.environment) for s in sides for r in s.rounds if r.environment]
    cores = {(e.machine_sha256, tuple(e.affinity)) for _, e in known}
    machines = {e.machine_sha256 for _, e in known}
    names = ", ".join(sorted({e.cpu for _, e in known}))
    split = [
        i for i in sorted({r.index for r, _ in known}) if _several(e.machine_sha256 for r, e in known if r.index == i)
    ]
    unlike = _several((e.cpu, len(e.affinity)) for _, e in known) or any(
        _several(r.record.device for r, _ in known if r.record and r.backend == s.backend) for s in sides
    )
    if len(cores) > len(machines) or split or unlike:
        where = f"; the two sides of round {split[0]} ran on different machines" if split else ""
        return Gate(
            name="device",
            status="failed",
            detail=f"rounds come from {len(machines)} machines and {len({c for _, c in cores})} sets of cores "
            f"({names}){where}",
        )
    if len(machines) > 1:
        detail = f"{len(machines)} machines alike ({names}), both sides of each round on one of them"
        return Gate(name="device", status="passed", detail=detail)
    return _gate("device", bool(machines), f"one machine ({names}), the same cores", "no round is recorded yet")


def _several(values: Iterable[object]) -> bool:
    return len(set(values)) > 1


def calls_gate(sides: Sides) -> Gate:
    """Require a chunk size per side at which every call succeeded and nothing compiled while timed (rules 13, 25)."""
    notes = []
    for side in sides:
        faults = [fault for chunk in side.chunk_sizes for fault in side.faults(chunk)]
        sound = [chunk for chunk in side.chunk_sizes if not side.faults(chunk)]
        if side.rounds and not sound:
            return Gate(name="calls", status="failed", detail=f"{side.backend} has no sound chunk size: {faults[0]}")
        notes += faults
    text = f"{len(notes)} cells are not eligible: {notes[0]}" if notes else "every call of every round succeeded"
    return _gate("calls", all(side.rounds for side in sides), text, "a side has no round yet")


def finite_gate(sides: Sides) -> Gate:
    """Require that no score is NaN or infinite, and that not all items have the same score (rule 33)."""
    for side in sides:
        for round_, cell in side.sound_cells():
            where = f"{round_.name} chunk {cell.chunk_size}"
            arrays = score_arrays(cell)
            if not all(np.isfinite(a).all() for a in arrays) or not np.isfinite(cell.pass_deviation or 0.0):
                return Gate(name="finite", status="failed", detail=f"{where} contains NaN or infinity")
            if sum(len(a) for a in arrays) > 1 and len({row.tobytes() for a in arrays for row in a}) == 1:
                return Gate(name="finite", status="failed", detail=f"{where}: all items have the same score")
    return _gate(
        "finite",
        any(s.sound_cells() for s in sides),
        "all scores are finite, and they differ between items",
        "no score is recorded yet",
    )


def reference_gate(side: SideEvidence) -> Gate:
    """Compare the timed scores with the float32 one-sequence-per-item reference, worst cell (rules 32, 34)."""
    name = f"reference {side.backend}"
    if not side.compared:
        return _not_compared(name, side)
    worst, where = Distance(0.0, 0.0, 0.0), ""
    for one in side.compared:
        away, spread = one.distance, max(one.distance.max, one.cell.pass_deviation or 0.0)
        if spread >= worst.max:
            worst, where = Distance(away.mean, away.p99, spread), f"{one.round.name} chunk {one.cell.chunk_size}"
    passed = all(one.distance.within(side.caps) for one in side.compared) and worst.within(side.caps)
    detail = f"largest difference {worst.max:.1e} of {side.caps.max:.0e} allowed, in {where}"
    return Gate(name=name, status=gate_status(passed), detail=detail, found=asdict(worst), allowed=asdict(side.caps))


def between_gate(sides: Sides) -> Gate:
    """Compare the two sides' scores of the same round and chunk size."""
    if len(sides) != 2 or not all(side.sound_cells() for side in sides):
        return Gate(name="between sides", status="not_run", detail="a side has no score yet")
    other = {(r.index, cell.chunk_size): cell for r, cell in sides[1].sound_cells()}
    distances = [
        distance(score_arrays(cell), score_arrays(other[key]))
        for r, cell in sides[0].sound_cells()
        if (key := (r.index, cell.chunk_size)) in other
    ]
    if not distances:
        return Gate(name="between sides", status="not_run", detail="no round of both sides shares a chunk size")
    worst = max(distances, key=lambda d: d.max)
    passed = all(d.within(BETWEEN_SIDES) for d in distances)
    detail = f"largest difference {worst.max:.1e} of {BETWEEN_SIDES.max:.0e} allowed"
    return Gate(
        name="between sides",
        status=gate_status(passed),
        detail=detail,
        found=asdict(worst),
        allowed=asdict(BETWEEN_SIDES),
    )


def ranking_gate(side: SideEvidence) -> Gate:
    """Require that no two items swap places if their reference scores differ by more than the tolerance (rule 33)."""
    name = f"ranking {side.backend}"
    return order_gate(name, [one.ranking for one in side.compared]) if side.compared else _not_compared(name, side)


def _not_compared(name: str, side: SideEvidence) -> Gate:
    why = side.reference if isinstance(side.reference, str) else "no score is recorded yet"
    return Gate(name=name, status="not_run", detail=why)


def order_gate(name: str, rankings: Sequence[Ranking]) -> Gate:
    """Judge the worst of several rankings."""
    inversions, tau = max(r.inversions for r in rankings), min(r.tau_b for r in rankings)
    flips = max(r.label_flips for r in rankings)
    overlap = {f"top_{k}": min(r.top_overlap.get(k, 1.0) for r in rankings) for k in rankings[0].top_overlap}
    return Gate(
        name=name,
        status=gate_status(inversions == 0),
        detail=f"{inversions} inversions, Kendall tau-b {tau:.4f}, {flips} label flips",
        allowed={"inversions": 0},
        found={"inversions": inversions, "tau_b": tau, "label_flips": flips, **overlap},
    )


def isolation_gate(side: SideEvidence, workload: Workload) -> Gate:
    """Require that number, order and content of neighbouring items do not change an item's score (rule 35)."""
    name, moved = f"isolation {side.backend}", side.neighbours_moved or 0.0
    items = [request.items_ids for request in workload.requests]
    if not side.sound_cells():
        return Gate(name=name, status="not_run", detail="no score is recorded yet")
    moved = max(moved, moved_by_chunks(side))
    # Rounding may give two of many items the same score, unless the reference separates them by more than rounding.
    rounding = [2 * min(one.distance.max, side.caps.max) for one in side.compared]
    for (round_, cell), reach in zip(side.sound_cells(), chain(rounding, repeat(0.0)), strict=False):
        for r, i, j in identical_items(score_arrays(cell), items):
            if not _alike(side.reference, r, i, j, reach):
                detail = f"{round_.name} chunk {cell.chunk_size}: items {i} and {j} of request {r} have the same score"
                return Gate(name=name, status="failed", detail=detail)
    detail = f"a score moves by {moved:.1e} at most when its neighbours change, {side.caps.max:.0e} allowed"
    return limit_gate(name, moved <= side.caps.max, detail, "max", moved, side.caps.max)


def _alike(reference: RequestArrays | str, request: int, i: int, j: int, rounding: float) -> bool:
    """Return whether the reference allows two items of a request the same score; False without a reference."""
    if isinstance(reference, str):
        return False
    return bool(np.abs(reference[request][i] - reference[request][j]).max() <= rounding)


def moved_by_chunks(side: SideEvidence) -> float:
    """Return the largest change of a score between chunk sizes of a round, that is, with the number of neighbours."""
    moved = 0.0
    for round_ in side.rounds:
        cells = [cell for cell in round_.cells if cell.status == "ok"]
        for cell in cells[1:]:
            moved = max(moved, distance(score_arrays(cell), score_arrays(cells[0])).max)
    return moved


def gate_status(passed: bool) -> GateStatus:
    """Return the status of a gate that could run."""
    return "passed" if passed else "failed"


def limit_gate(name: str, passed: bool, detail: str, what: str, found: float, allowed: float) -> Gate:
    """Return a gate that could run, on one figure and its limit."""
    return Gate(name=name, status=gate_status(passed), detail=detail, found={what: found}, allowed={what: allowed})


def _gate(name: str, has_run: bool, detail: str, otherwise: str) -> Gate:
    """Pass the gate if it had data, else mark it not run; the caller has already returned any failure."""
    return Gate(name=name, status="passed" if has_run else "not_run", detail=detail if has_run else otherwise)
