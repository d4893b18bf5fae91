"""Gates on the times: physically possible, growing with the work, steady, uncached, after equal tuning effort."""

from __future__ import annotations

import math
from collections.abc import Sequence

from scorematrix.compare.clocks import clock_gate, cores_gate, interference_gate
from scorematrix.compare.evidence import SideEvidence, paired_ratios
from scorematrix.compare.fresh import fresh_reference_gate, fresh_scores_gate, fresh_time_gate
from scorematrix.compare.gates import gate_status, limit_gate
from scorematrix.compare.pairs import pair_ratios
from scorematrix.compare.records import records_gate
from scorematrix.compare.schema import Gate
from scorematrix.compare.statistics import FAILING_CONFIDENCE, MIN_ROUNDS, Interval, geometric_interval
from scorematrix.compare.steady import steadiness
from scorematrix.results.figures import pass_seconds
from scorematrix.results.schema import SIDES, Manifest, Round

CEILING_SHARE = 1.05
"""A rate above this share of the measured ceiling is false: the clock stopped before the work was done (rule 8)."""
GROWTH_SHARE = 0.5
"""A call with more work takes longer by at least this share of the added work's time at the ceiling (rule 8) ..."""
GROWTH_WORK = 1.25
"""... checked only if the largest call has at least this many times the work of the smallest ..."""
OVERHEAD_SHARE = 0.1
"""... and if it reaches at least this share of the ceiling: below that, overhead dominates a call's time."""
CACHE_SHARE = 1.1
"""A repeated query may be up to this many times as fast as a new one (rule 36)."""


def timing_gates(
    sides: Sequence[SideEvidence],
    measured: Sequence[SideEvidence],
    manifest: Manifest,
    controls: Sequence[Round] = (),
) -> list[Gate]:
    """Run all gates on the times of both sides, each side's first, then those that compare the sides.

    Args:
        measured: all sides of the run, see `physics_gate`.
        controls: the run's control rounds.
    """
    gates = [gate for side in sides for gate in side_timing_gates(side, measured, manifest)]
    choice = choice_gate(sides, manifest.params["margin"])
    keys = {(side.backend, side.view, side.target) for side in sides}
    beside = [r for s in measured if (s.backend, s.view, s.target) not in keys for r in s.rounds]
    records = records_gate(sides, [*beside, *controls], manifest.params.get("disturbed_share", 0.05))
    between = [fresh_scores_gate(sides), effort_gate(sides), choice, interference_gate(sides), records]
    return [*gates, *(gate for gate in between if gate is not None)]


def side_timing_gates(side: SideEvidence, sides: Sequence[SideEvidence], manifest: Manifest) -> list[Gate]:
    """Run the gates on the times of one side.

    Args:
        sides: all measured sides, see `physics_gate`.
    """
    gates: list[Gate | None] = [clock_gate(side), cores_gate(side), fresh_reference_gate(side)]
    # Work that prefix reuse saves would look like work that the clock did not wait for.
    if not side.reuses_prefix:
        gates += [physics_gate(side, sides, manifest), growth_gate(side, manifest)]
        gates += [cache_gate(side), fresh_time_gate(side)]
    return [gate for gate in [*gates, steady_gate(side)] if gate is not None]


def physics_gate(side: SideEvidence, sides: Sequence[SideEvidence], manifest: Manifest) -> Gate | None:
    """Require that no pass beats the hardware: minimum operations over seconds stay below the measured ceiling.

    None for a server at a given URL whose device no round could measure; the report warns of it.

    Args:
        sides: all measured sides; no framework can exceed its device's ceiling, so the highest on that device counts.
    """
    name, floor_flops = f"physics {side.backend}", manifest.floor_flops
    here = [r for other in sides if other.target == side.target for r in other.rounds]
    ceiling = max((r.ceilings.matmul_flops_per_second for r in here if r.ceilings), default=None)
    cells = [(round_, cell) for round_, cell in side.sound_cells() if cell.call_ns]
    if not ceiling and side.tuning and side.backend in manifest.given_servers:
        return None
    if not floor_flops or not ceiling or not cells:
        lacking = "operation count" if not floor_flops else "ceiling" if not ceiling else "timed pass"
        return Gate(name=name, status="not_run", detail=f"no {lacking} is recorded yet")
    share, where = max(
        (floor_flops / max(min(pass_seconds(cell.call_ns)), 1e-9) / ceiling, f"{round_.name} chunk {cell.chunk_size}")
        for round_, cell in cells
    )
    detail = (
        f"the fastest pass computes at {share:.0%} of the measured ceiling, {CEILING_SHARE:.0%} allowed, in {where}"
    )
    if share > CEILING_SHARE:
        detail += "; a call returned before its work was done, or computed less than requested"
    return limit_gate(name, share <= CEILING_SHARE, detail, "share", share, CEILING_SHARE)


def growth_gate(side: SideEvidence, manifest: Manifest) -> Gate | None:
    """Require that a call with more items takes longer, or the clock misses work. None if there is too little data.

    A call has overhead besides its work: at half the ceiling, half of its time need not grow. So the required growth
    depends on the share of the ceiling that the larger call reaches, which spares a small model on a fast device. Other
    processes can slow the small calls of every round, so the gate fails only if the fastest calls agree.
    """
    chunks = [c for c in side.chunk_sizes if c in manifest.call_flops and side.seconds_by_round(c)]
    if len(chunks) < 2:
        return None
    small, large = chunks[0], chunks[-1]
    calls = {c: side.calls_a_pass(c) for c in (small, large)}
    work = manifest.call_flops[large] / calls[large] / (manifest.call_flops[small] / calls[small])
    ratios = paired_ratios(side.seconds_by_round(large), side.seconds_by_round(small))
    ceiling = side.matmul_flops_per_second
    if work < GROWTH_WORK or len(ratios) < 2 or ceiling is None:
        return None
    grown = geometric_interval([ratio * calls[small] / calls[large] for ratio in ratios.values()], FAILING_CONFIDENCE)
    fastest = side.fastest_seconds(large) / calls[large] / (side.fastest_seconds(small) / calls[small])
    seconds = geometric_interval(list(side.seconds_by_round(large).values())).center
    share = manifest.call_flops[large] / seconds / ceiling
    least = 1 / (1 - GROWTH_SHARE * min(share, 1) * (1 - 1 / work))
    detail = (
        f"a call of {large} items does {work:.2f}x the work of a call of {small} and takes {grown.center:.2f}x as long "
        f"({grown.low:.2f}x to {grown.high:.2f}x at 99 %; fastest calls {fastest:.2f}x); at {share:.0%} of peak it "
        f"must take at least {least:.2f}x"
    )
    if share < OVERHEAD_SHARE:
        passed, detail = True, f"{detail}; not checked: overhead dominates such a call"
    else:
        passed = max(grown.high, fastest) >= least
    return Gate(
        name=f"growth {side.backend}",
        status=gate_status(passed),
        detail=detail,
        found={"ratio": grown.center, "work": work, "ceiling_share": share},
        allowed={"ratio": least},
    )


def cache_gate(side: SideEvidence) -> Gate | None:
    """Require that a repeated query takes as long as a new one. None for sides without the caching probe."""
    name = f"no caching {side.backend}"
    probes = [(r, r.probes) for r in side.tuning if r.probes]
    is_probed = side.backend in SIDES or any(probe.fresh_ns for _, probe in probes)  # baselines are not
    if not probes or not is_probed:
        return None
    ratios = []
    for round_, probe in probes:
        if not probe.fresh_ns or not probe.repeat_ns:
            return Gate(name=name, status="not_run", detail=f"{round_.name}: {probe.error or 'the probe did not run'}")
        ratios.append(min(pass_seconds(probe.fresh_ns)) / max(pass_seconds(probe.repeat_ns)))
    least = min(ratios)
    detail = (
        f"new queries take {least:.2f} times as long as repeated ones, {CACHE_SHARE:.2f} allowed "
        "(fastest of the new over slowest of the repeated)"
    )
    return limit_gate(name, least <= CACHE_SHARE, detail, "ratio", least, CACHE_SHARE)


def steady_gate(side: SideEvidence) -> Gate | None:
    """Require that warm-up was over: the last quarter of the passes is as fast as the second (rule 14).

    A single drifting round is only classified and listed; a side fails if its rounds drift together. None if fewer than
    two rounds have four timed passes.
    """
    steady = steadiness(side)
    if steady is None or steady.drift.n < 2:
        return None
    drift, tolerance = steady.drift, steady.tolerance
    sure = drift.low > 1 + tolerance or drift.high < 1 / (1 + tolerance)
    classes = ", ".join(f"{n} {name}" for name, n in steady.classes.items())
    kind = "slowing" if drift.center > 1 else "warming"
    detail = (
        f"{f'{kind}: ' if sure else ''}passes of the last quarter take {drift.center:.3f} times those of the "
        f"second ({drift.low:.3f} to {drift.high:.3f} at 99 %), {tolerance:.0%} allowed; rounds: {classes}"
    )
    return limit_gate(f"steady {side.backend}", not sure, detail, "ratio", drift.center, 1 + tolerance)


def effort_gate(sides: Sequence[SideEvidence]) -> Gate:
    """Require that both sides tuned over the same configurations (rule 2); otherwise one side may miss its best."""
    tried = {side.backend: side.tuning_configurations for side in sides}
    detail = "configurations tried: " + ", ".join(
        f"{s.backend} {tried[s.backend]} in {s.tuning_seconds / 60:.1f} min" for s in sides
    )
    sizes = {side.backend: side.chunk_sizes for side in sides}
    are_alike = len({tuple(chunks) for chunks in sizes.values()}) == 1
    if not are_alike:
        listed = ", ".join(f"{name} {chunks}" for name, chunks in sizes.items())
        detail += f"; chunk sizes differ: {listed}; give both sides the same chunk_sizes"
    if not all(side.tuning for side in sides):
        return Gate(name="effort", status="not_run", detail="a side has no tuning round yet")
    return Gate(name="effort", status=gate_status(are_alike and len(set(tried.values())) == 1), detail=detail)


def choice_gate(sides: Sequence[SideEvidence], margin: float) -> Gate | None:
    """Require that no other chunk size of a side would change the verdict. None with too few rounds.

    A disturbed tuning round may choose a slower chunk size, so that the side is not compared at its best.

    Args:
        margin: the smallest difference that counts, as a fraction.
    """
    lost = [_lost_by_choice(side) for side in sides]
    if len(sides) != 2 or all(one is None for one in lost):
        return None
    first, second = sides
    pairs = pair_ratios(first.confirm, first.best_chunk or 0, second.confirm, second.best_chunk or 0)
    if len(pairs) < MIN_ROUNDS:
        return None
    effect, bound = geometric_interval([pair.ratio for pair in pairs.values()]), math.log1p(margin)
    passed, losses = True, []
    for side, one, sign in zip(sides, lost, (-1, 1), strict=True):
        if one is None:
            continue
        chunk, loss = one
        losses.append(
            f"{side.backend} at chunk {side.best_chunk} takes {loss.center:.3f} times as long as at chunk {chunk} "
            f"({loss.low:.3f} to {loss.high:.3f})"
        )
        if loss.low > 1 + margin:
            moved = sign * math.log(loss.low)
            passed &= _beyond(effect, bound, 0.0) == _beyond(effect, bound, moved)
    detail = f"tuning's choice in confirmation rounds: {'; '.join(losses)}"
    return Gate(name="choice", status=gate_status(passed), detail=detail)


def _lost_by_choice(side: SideEvidence) -> tuple[int, Interval] | None:
    """Return the chunk size with the largest lower bound on the chosen one's time over its time, with the interval."""
    intervals = {}
    for chunk in side.chunk_sizes:
        if (best := side.best_chunk) is None or chunk == best or side.faults(chunk):
            continue
        ratios = paired_ratios(side.seconds_by_round(best), side.seconds_by_round(chunk))
        if len(ratios) >= MIN_ROUNDS:
            intervals[chunk] = geometric_interval(list(ratios.values()))
    return max(intervals.items(), key=lambda one: one[1].low, default=None)


def _beyond(effect: Interval, bound: float, moved: float) -> int:
    """Return the sign of the winner by the interval shifted by `moved` (logarithm): -1, 0 or 1."""
    low, high = math.log(effect.low) + moved, math.log(effect.high) + moved
    return (low > bound) - (high < -bound)
