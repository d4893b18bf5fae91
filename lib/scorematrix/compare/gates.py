"""The conditions that both sides must meet before any time of theirs may decide."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict

import numpy as np

from scorematrix.compare.evidence import SideEvidence, pass_seconds, score_arrays
from scorematrix.compare.numerics import (
    BETWEEN_SIDES,
    Distance,
    Ranking,
    RequestArrays,
    distance,
    identical_items,
    ranking,
)
from scorematrix.compare.schema import Gate, GateStatus
from scorematrix.results.schema import Round
from scorematrix.workload.workload import Workload

Sides = Sequence[SideEvidence]
SAME_SCORE = 1e-6
"""Two items whose reference scores are nearer than this may come out bit-identical without a fault."""
CEILING_SHARE = 1.05
"""A rate above this share of the measured ceiling is no rate: the clock stopped before the work was done (rule 8)."""


def run_gates(
    sides: Sides,
    reference: RequestArrays | str,
    workload: Workload,
    same_target: bool,
    floor_flops: int | None,
) -> list[Gate]:
    """All gates of one contrast, in the order in which a reader should ask.

    Args:
        reference: the float32 one-sequence-per-item scores, or why there are none.
        same_target: whether both sides claim the same physical device.
        floor_flops: the fewest operations that score the workload once; None: not recorded.
    """
    gates = [inputs_gate(sides), calls_gate(sides), finite_gate(sides)]
    if same_target:
        gates.insert(1, device_gate(sides))
    if gates[-1].status == "passed":
        gates += [reference_gate(side, reference) for side in sides]
        gates += [between_gate(sides)]
        gates += [ranking_gate(side, reference) for side in sides]
        gates += [isolation_gate(side, reference, workload) for side in sides]
    # Work that was left out on request would look like work that was not waited for.
    gates += [physics_gate(side, floor_flops) for side in sides if not side.reuses_prefix]
    return gates


def inputs_gate(sides: Sides) -> Gate:
    """Same protocol, workload, weights and number format in every round of both sides (rules 30, 31)."""
    fields: dict[str, Callable[[Round], str | None]] = {
        "protocol": lambda r: r.protocol,
        "workload_sha256": lambda r: r.workload_sha256,
        "weights_sha256": lambda r: r.weights_sha256,
        "dtype": lambda r: r.record.dtype if r.record else None,
    }
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
    """Same machine and device: a framework verdict compares nothing else (rule 1)."""
    machines = {r.environment.machine_sha256 for s in sides for r in s.rounds if r.environment}
    threads = {tuple(r.environment.affinity) for s in sides for r in s.rounds if r.environment}
    names = {r.environment.cpu for s in sides for r in s.rounds if r.environment}
    if len(machines) > 1 or len(threads) > 1:
        return Gate(
            name="device",
            status="failed",
            detail=f"rounds come from {len(machines)} machines and "
            f"{len(threads)} sets of cores ({', '.join(sorted(names))})",
        )
    return _gate(
        "device", bool(machines), f"one machine ({', '.join(names)}), the same cores", "no round is recorded yet"
    )


def calls_gate(sides: Sides) -> Gate:
    """Each side has a chunk size at which every call succeeded and nothing compiled while timed (rules 13, 25)."""
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
    """No score is NaN, infinite, or the same for all items (rule 33)."""
    for side in sides:
        for round_, cell in side.sound_cells():
            where = f"{round_.name} chunk {cell.chunk_size}"
            arrays = score_arrays(cell)
            if not all(np.isfinite(a).all() for a in arrays) or not np.isfinite(cell.pass_deviation or 0.0):
                return Gate(name="finite", status="failed", detail=f"{where} holds NaN or infinity")
            if sum(len(a) for a in arrays) > 1 and len({row.tobytes() for a in arrays for row in a}) == 1:
                return Gate(name="finite", status="failed", detail=f"{where}: all items have the same score")
    return _gate(
        "finite",
        any(s.sound_cells() for s in sides),
        "all scores are finite, and they differ between items",
        "no score is recorded yet",
    )


def reference_gate(side: SideEvidence, reference: RequestArrays | str) -> Gate:
    """The timed scores keep to the float32 one-sequence-per-item reference, worst cell (rules 32, 34)."""
    name = f"reference {side.backend}"
    if isinstance(reference, str):
        return Gate(name=name, status="not_run", detail=reference)
    cells = side.sound_cells()
    if not cells:
        return Gate(name=name, status="not_run", detail="no score is recorded yet")
    worst, where = Distance(0.0, 0.0, 0.0), ""
    for round_, cell in cells:
        found = distance(score_arrays(cell), reference)
        spread = max(found.max, cell.pass_deviation or 0.0)
        found = Distance(found.mean, found.p99, spread)
        if found.max >= worst.max:
            worst, where = found, f"{round_.name} chunk {cell.chunk_size}"
    passed = all(distance(score_arrays(c), reference).within(side.caps) for _, c in cells) and worst.within(side.caps)
    detail = f"largest difference {worst.max:.1e} of {side.caps.max:.0e} allowed, in {where}"
    return Gate(name=name, status=_status(passed), detail=detail, found=asdict(worst), allowed=asdict(side.caps))


def between_gate(sides: Sides) -> Gate:
    """The two sides' scores of the same round and chunk size agree."""
    if len(sides) != 2 or not all(side.sound_cells() for side in sides):
        return Gate(name="between sides", status="not_run", detail="a side has no score yet")
    other = {(r.index, cell.chunk_size): cell for r, cell in sides[1].sound_cells()}
    found = [
        distance(score_arrays(cell), score_arrays(other[key]))
        for r, cell in sides[0].sound_cells()
        if (key := (r.index, cell.chunk_size)) in other
    ]
    if not found:
        return Gate(name="between sides", status="not_run", detail="no round of both sides shares a chunk size")
    worst = max(found, key=lambda d: d.max)
    passed = all(d.within(BETWEEN_SIDES) for d in found)
    detail = f"largest difference {worst.max:.1e} of {BETWEEN_SIDES.max:.0e} allowed"
    return Gate(
        name="between sides", status=_status(passed), detail=detail, found=asdict(worst), allowed=asdict(BETWEEN_SIDES)
    )


def ranking_gate(side: SideEvidence, reference: RequestArrays | str) -> Gate:
    """No pair of items that the reference sets clearly apart comes out in the other order (rule 33)."""
    name = f"ranking {side.backend}"
    if isinstance(reference, str) or not side.sound_cells():
        why = reference if isinstance(reference, str) else "no score is recorded yet"
        return Gate(name=name, status="not_run", detail=why)
    return order_gate(
        name, [ranking(score_arrays(cell), reference, 2 * side.caps.max) for _, cell in side.sound_cells()]
    )


def order_gate(name: str, found: Sequence[Ranking]) -> Gate:
    """The worst of some answers' rankings."""
    inversions, tau = max(r.inversions for r in found), min(r.tau_b for r in found)
    flips = max(r.label_flips for r in found)
    overlap = {f"top_{k}": min(r.top_overlap.get(k, 1.0) for r in found) for k in found[0].top_overlap}
    return Gate(
        name=name,
        status=_status(inversions == 0),
        detail=f"{inversions} inversions, Kendall tau-b {tau:.4f}, {flips} label flips",
        allowed={"inversions": 0},
        found={"inversions": inversions, "tau_b": tau, "label_flips": flips, **overlap},
    )


def isolation_gate(side: SideEvidence, reference: RequestArrays | str, workload: Workload) -> Gate:
    """An item's score is its own: other neighbours (other chunk sizes) do not move it (rule 35)."""
    name, moved = f"isolation {side.backend}", 0.0
    items = [request.items_ids for request in workload.requests]
    if not side.sound_cells():
        return Gate(name=name, status="not_run", detail="no score is recorded yet")
    for round_ in side.rounds:
        cells = [cell for cell in round_.cells if cell.status == "ok"]
        for cell in cells:
            moved = max(moved, distance(score_arrays(cell), score_arrays(cells[0])).max)
            for r, i, j in identical_items(score_arrays(cell), items):
                if isinstance(reference, str) or np.abs(reference[r][i] - reference[r][j]).max() > SAME_SCORE:
                    detail = (
                        f"{round_.name} chunk {cell.chunk_size}: items {i} and {j} of request {r} have the same score"
                    )
                    return Gate(name=name, status="failed", detail=detail)
    detail = f"a score moves by {moved:.1e} at most when its neighbours change, {side.caps.max:.0e} allowed"
    return Gate(
        name=name,
        status=_status(moved <= side.caps.max),
        detail=detail,
        found={"max": moved},
        allowed={"max": side.caps.max},
    )


def physics_gate(side: SideEvidence, floor_flops: int | None) -> Gate:
    """No pass is faster than the hardware: the fewest operations over its seconds stay below the measured ceiling."""
    name = f"physics {side.backend}"
    ceilings = [r.ceilings.matmul_flops_per_second for r in side.rounds if r.ceilings]
    cells = [(round_, cell) for round_, cell in side.sound_cells() if cell.call_ns]
    if not floor_flops or not ceilings or not cells:
        lacking = "operation count" if not floor_flops else "ceiling" if not ceilings else "timed pass"
        return Gate(name=name, status="not_run", detail=f"no {lacking} is recorded yet")
    ceiling = max(ceilings)
    share, where = max(
        (floor_flops / max(min(pass_seconds(cell)), 1e-9) / ceiling, f"{round_.name} chunk {cell.chunk_size}")
        for round_, cell in cells
    )
    detail = (
        f"the fastest pass computes at {share:.0%} of the measured ceiling, {CEILING_SHARE:.0%} allowed, in {where}"
    )
    if share > CEILING_SHARE:
        detail += "; a call returned before its work was done, or less was computed than was asked for"
    return Gate(
        name=name,
        status=_status(share <= CEILING_SHARE),
        detail=detail,
        found={"share": share},
        allowed={"share": CEILING_SHARE},
    )


def _status(passed: bool) -> GateStatus:
    return "passed" if passed else "failed"


def _gate(name: str, has_run: bool, found: str, otherwise: str) -> Gate:
    """A gate that passes once there is something to look at, its failures having been returned before."""
    return Gate(name=name, status="passed" if has_run else "not_run", detail=found if has_run else otherwise)
