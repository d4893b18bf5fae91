"""A run folder's documents in, one `Comparison` out."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Literal

import numpy as np

from scorematrix.compare.evidence import SideEvidence, gather, paired_ratios, score_arrays
from scorematrix.compare.family import correct_family
from scorematrix.compare.gates import run_gates
from scorematrix.compare.numerics import RequestArrays
from scorematrix.compare.schema import Comparison, Contrast, Effect, Matched, Notice, Speedup, WorkloadSummary
from scorematrix.compare.sides import summarise_side
from scorematrix.compare.statistics import Interval, geometric_interval
from scorematrix.compare.verdict import judge, sentence
from scorematrix.results import SIDES, Manifest, Readiness, Round, TargetState
from scorematrix.workload.workload import Workload

SCATTER = 0.1
"""A standard deviation over rounds of this share of the mean, or more, is worth a warning (rule 20)."""


def compare_run(manifest: Manifest, workload: Workload, readiness: Readiness, rounds: Sequence[Round]) -> Comparison:
    """Judge a run. Works at any moment of it: what is missing is named, never filled in."""
    reference = reference_scores(rounds, readiness, manifest)
    planned = {(p.backend, p.view, p.target): 0 for p in manifest.plan if p.role != "reference"}
    sides = {key: gather(rounds, *key) for key in planned}
    ready = [p for p in manifest.plan if _skip(readiness, p.target, p.backend) is None]
    notices = skip_notices(readiness, {backend for backend, _, _ in planned})
    machines = list(dict.fromkeys(r.environment.cpu for r in rounds if r.environment)) or [readiness.machine]
    return Comparison(
        run_id=manifest.run_id,
        created_utc=manifest.created_utc,
        compared_utc=datetime.now(UTC).isoformat(timespec="seconds"),
        params=manifest.params,
        params_sha256=manifest.params_sha256,
        weights_sha256=next((r.weights_sha256 for r in rounds if r.weights_sha256), None),
        workload=summarise_workload(workload),
        machine="; ".join(machines),
        partial=bool(notices) or len(rounds) < len(ready),
        rounds_done=len(rounds),
        rounds_planned=len(ready),
        notices=notices,
        contrasts=correct_family(
            _contrasts(manifest, readiness, sides, reference, workload), manifest.params["margin"]
        ),
        sides=[
            summarise_side(side, _skip(readiness, side.target, side.backend), manifest, reference, workload)
            for side in sides.values()
        ],
        speedups=_speedups(sides),
        warnings=[*_warnings(rounds), *_scatter(sides.values())],
    )


def reference_scores(rounds: Sequence[Round], readiness: Readiness, manifest: Manifest) -> RequestArrays | str:
    """The reference's scores, or why there are none."""
    for round_ in rounds:
        if round_.role == "reference":
            cell = round_.cells[0]
            return score_arrays(cell) if cell.status == "ok" else f"the reference round failed: {cell.error}"
    planned = next(p for p in manifest.plan if p.role == "reference")
    if (skip := _skip(readiness, planned.target, planned.backend)) is not None:
        return f"the reference ({planned.backend}) was skipped on {planned.target}: {skip.evidence}"
    return "the reference round is not recorded yet"


def skip_notices(readiness: Readiness, backends: set[str]) -> list[Notice]:
    """One notice for each (target, backend) of the comparison that could not run."""
    notices = []
    for state in readiness.skipped:
        if state.backend not in backends:
            continue
        next_step = state.next_step or "see the evidence"
        text = (
            f"SKIPPED {state.label} ({state.target}), {state.backend} {' and '.join(state.views)}: "
            f"{state.reason}, {state.evidence}. Next: {next_step}."
        )
        notices.append(
            Notice(
                target=state.target,
                label=state.label,
                backend=state.backend,
                views=state.views,
                reason=state.reason or "unsupported",
                evidence=state.evidence,
                next_step=next_step,
                text=text,
            )
        )
    return notices


def summarise_workload(workload: Workload) -> WorkloadSummary:
    """Shape and hash of what was scored."""
    return WorkloadSummary(
        name=workload.name,
        origin=workload.origin,
        sha256=workload.sha256,
        apply_softmax=workload.apply_softmax,
        n_requests=len(workload.requests),
        n_items=workload.n_items,
        n_tokens=workload.n_tokens,
        query_tokens=[len(r.query_ids) for r in workload.requests],
        item_tokens=[len(ids) for r in workload.requests for ids in r.items_ids],
    )


def _contrasts(
    manifest: Manifest,
    readiness: Readiness,
    sides: dict[tuple[str, str, str], SideEvidence],
    reference: RequestArrays | str,
    workload: Workload,
) -> list[Contrast]:
    """One contrast per comparison of the params and per view that both frameworks serve."""
    found = []
    for choice in manifest.params["comparisons"]:
        targets = {"jax": choice["jax"], "pytorch": choice["pytorch"]}
        views = {b["backend"]: b["views"] for b in manifest.params["backends"]}
        for view in views.get("jax", []):
            if view in views.get("pytorch", []):
                pair = [sides[b, view, targets[b]] for b in ("jax", "pytorch")]
                found.append(_contrast(manifest, readiness, pair, reference, workload))
    return found


def _contrast(
    manifest: Manifest,
    readiness: Readiness,
    pair: list[SideEvidence],
    reference: RequestArrays | str,
    workload: Workload,
) -> Contrast:
    jax, pytorch = pair
    states = [readiness.state(side.target, side.backend) for side in pair]
    same = jax.target == pytorch.target
    kind: Literal["framework", "system"] = "framework" if same else "system"
    where = states[0].label if same and states[0] else " against ".join(s.label if s else "?" for s in states)
    skips = [s for side in pair if (s := _skip(readiness, side.target, side.backend)) is not None]
    interval = _interval(jax, jax.best_chunk, pytorch, pytorch.best_chunk)
    gates = run_gates(pair, reference, workload, same_target=same, floor_flops=manifest.floor_flops)
    verdict = judge(
        missing_sides=[(_why(s), s.next_step or "see the evidence") for s in skips],
        gates=gates,
        interval=interval,
        rounds_planned=manifest.params["rounds"],
        margin=manifest.params["margin"],
    )
    measured = {chunk for side in pair for chunk in side.chunk_sizes}
    matched = [_matched(jax, pytorch, chunk) for chunk in sorted(measured or manifest.params["chunk_sizes"])]
    rows = [row.effect.ratio for row in matched if row.effect]
    return Contrast(
        name=where,
        kind=kind,
        view=jax.view,
        jax_target=jax.target,
        pytorch_target=pytorch.target,
        jax_chunk=jax.best_chunk,
        pytorch_chunk=pytorch.best_chunk,
        verdict=verdict.state,
        sentence=sentence(where, kind, jax.view, verdict, interval),
        reason=verdict.reason,
        next_step=verdict.next_step,
        effect=_effect(interval),
        more_rounds=verdict.more_rounds,
        matched=matched,
        # Never an average over incomplete rows (rule 26).
        matched_ratio=geometric_interval(rows).center if rows and len(rows) == len(matched) else None,
        gates=gates,
    )


def _speedups(sides: dict[tuple[str, str, str], SideEvidence]) -> list[Speedup]:
    """Every side that stands for a framework over every baseline on the same target."""
    found = []
    for side in sides.values():
        for other in sides.values():
            if side.backend not in SIDES or other.backend in SIDES or side.target != other.target:
                continue
            names = dict(
                backend=side.backend,
                view=side.view,
                target=side.target,
                baseline=other.backend,
                baseline_view=other.view,
            )
            effect = _effect(_interval(other, other.best_chunk, side, side.best_chunk))
            reason = None if effect else "fewer than two rounds of both have a figure"
            found.append(Speedup(**names, effect=effect, reason=reason))
    return found


def _interval(over: SideEvidence, over_chunk: int | None, under: SideEvidence, under_chunk: int | None):
    """The first's time over the second's, paired by round; None without a round of both."""
    if over_chunk is None or under_chunk is None:
        return None
    ratios = paired_ratios(over.seconds_by_round(over_chunk), under.seconds_by_round(under_chunk))
    return geometric_interval(ratios) if ratios else None


def _matched(jax: SideEvidence, pytorch: SideEvidence, chunk: int) -> Matched:
    interval = _interval(jax, chunk, pytorch, chunk)
    if interval is None:
        return Matched(chunk_size=chunk, effect=None, reason="no round of both sides has this chunk size")
    return Matched(chunk_size=chunk, effect=_effect(interval))


def _effect(interval: Interval | None) -> Effect | None:
    if interval is None or not np.isfinite(interval.high):
        return None
    return Effect(
        ratio=interval.center, low=interval.low, high=interval.high, n_rounds=interval.n, sd_log=interval.sd_log
    )


def _skip(readiness: Readiness, target: str, backend: str) -> TargetState | None:
    state = readiness.state(target, backend)
    return state if state is not None and state.state == "skipped" else None


def _why(state: TargetState) -> str:
    return f"{state.backend} on {state.label} was skipped ({state.reason}): {state.evidence}"


def _scatter(sides: Iterable[SideEvidence]) -> list[str]:
    """Chunk sizes whose rounds scatter by a tenth or more of their mean (rule 20)."""
    found = []
    for side in sides:
        for chunk in side.chunk_sizes:
            seconds = list(side.seconds_by_round(chunk).values())
            share = float(np.std(seconds, ddof=1) / np.mean(seconds)) if len(seconds) > 2 else 0.0
            if share >= SCATTER:
                found.append(
                    f"{side.backend} {side.view} on {side.target}, chunk {chunk}: the rounds' times scatter by "
                    f"{share:.0%} of their mean; other work on the machine, or a changing clock"
                )
    return found


def _warnings(rounds: Sequence[Round]) -> list[str]:
    """What does not stop a verdict, but a careful reader wants to know (rule 20)."""
    found = []
    commits = {(e.git_commit, e.git_dirty) for r in rounds if (e := r.environment) and e.git_commit}
    if len({commit for commit, _ in commits}) > 1:
        found.append(f"rounds were measured at {len(commits)} different commits of this repository")
    if any(dirty for _, dirty in commits):
        found.append("rounds were measured with uncommitted changes in the checkout")
    busy = [r.name for r in rounds if (e := r.environment) and e.load_average > 1.5 * len(e.affinity)]
    if busy:
        found.append(f"{len(busy)} rounds began on a busy machine (load average above 1.5 a core): {', '.join(busy)}")
    return found
