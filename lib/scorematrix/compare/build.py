"""Build a `Comparison` from the documents of a run folder."""

from __future__ import annotations

from collections.abc import Sequence

from scorematrix.compare.caveats import caveats
from scorematrix.compare.controls import gather_controls, judge_control
from scorematrix.compare.evidence import MEASURED, SideEvidence, gather, score_arrays
from scorematrix.compare.numerics import RequestArrays
from scorematrix.compare.questions import answer_all, ask_questions, time_ratio
from scorematrix.compare.schema import Comparison, Effect, Notice, Speedup, WorkloadSummary
from scorematrix.compare.sequential import look_schedule
from scorematrix.compare.sides import summarise_side
from scorematrix.results import SERVER_VIEW, SIDES, Manifest, Readiness, Round
from scorematrix.results.files import utc_now
from scorematrix.results.status import one_reference
from scorematrix.workload.workload import Workload


def compare_run(manifest: Manifest, workload: Workload, readiness: Readiness, rounds: Sequence[Round]) -> Comparison:
    """Judge a run, which may be unfinished. Missing data is reported, never filled in."""
    reference = reference_scores(rounds, readiness, manifest)
    measured = [p for p in manifest.plan if p.role in MEASURED]
    keys = dict.fromkeys((p.backend, p.view, p.target) for p in measured)
    sides = {key: gather(rounds, *key, reference) for key in keys}
    controls = gather_controls(manifest, rounds)
    looks, margin = look_schedule(manifest.params), manifest.params["margin"]
    questions = ask_questions(manifest, readiness, sides, controls, workload)
    contrasts = answer_all(questions, looks, margin)
    reached = max([c.n_rounds for c in contrasts if c.verdict != "deferred"], default=looks.counts[0])
    # Rounds beyond the last look reached are needed only if that look does not decide.
    reachable = [p for p in manifest.plan if readiness.skip(p.target, p.backend) is None]
    wanted = one_reference(reachable, {r.name for r in rounds})
    needed = {p.name for p in wanted if p.index < looks.indices(reached).stop}
    done = len([r for r in rounds if r.name in needed])
    notices = skip_notices(readiness, {(target, backend) for backend, _, target in sides})
    machines = list(dict.fromkeys(r.environment.cpu for r in rounds if r.environment)) or [readiness.machine]
    return Comparison(
        run_id=manifest.run_id,
        created_utc=manifest.created_utc,
        compared_utc=utc_now(),
        params=manifest.params,
        params_sha256=manifest.params_sha256,
        weights_sha256=next((r.weights_sha256 for r in rounds if r.weights_sha256), None),
        workload=summarise_workload(workload),
        machine="; ".join(machines),
        partial=bool(notices) or done < len(needed),
        rounds_done=done,
        rounds_planned=len(needed),
        notices=notices,
        contrasts=contrasts,
        sides=[summarise_side(side, readiness, manifest, workload, needed) for side in sides.values()],
        speedups=_speedups(sides),
        controls=[
            judge_control(c, looks.indices(reached), looks.confidence, margin, done == len(needed))
            for c in controls
            if any(readiness.skip(c.target, backend) is None for backend in c.backends)
        ],
        compiled=readiness.compiled,
        looks=list(looks.counts),
        warnings=caveats(manifest, rounds, list(sides.values()), controls, contrasts, readiness),
    )


def reference_scores(rounds: Sequence[Round], readiness: Readiness, manifest: Manifest) -> RequestArrays | str:
    """Return the reference's scores, or why there are none."""
    for round_ in rounds:
        if round_.role == "reference":
            cell = round_.cells[0]
            return score_arrays(cell) if cell.status == "ok" else f"the reference round failed: {cell.error}"
    planned = [p for p in manifest.plan if p.role == "reference"]
    skips = [skip for p in planned if (skip := readiness.skip(p.target, p.backend)) is not None]
    if len(skips) == len(planned):
        why = "; ".join(f"on {skip.target}, {skip.evidence}" for skip in skips)
        return (
            f"the reference ({planned[0].backend}) was skipped: {why}; install it, or name another backend as "
            "`reference` in the params"
        )
    return "the reference round is not recorded yet"


def skip_notices(readiness: Readiness, compared: set[tuple[str, str]]) -> list[Notice]:
    """Return one notice for each (target, backend) of the comparison that could not run."""
    notices = []
    for state in readiness.skipped:
        if (state.target, state.backend) not in compared:
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
                attempts=state.attempts,
            )
        )
    return notices


def summarise_workload(workload: Workload) -> WorkloadSummary:
    """Return the workload's shape and hash."""
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


def _speedups(sides: dict[tuple[str, str, str], SideEvidence]) -> list[Speedup]:
    """Return the speedup of every framework's side over every baseline on the same target."""
    speedups = []
    for side in sides.values():
        for other in sides.values():
            # A server is also a baseline for engines: the ratio shows what serving costs.
            is_baseline = other.backend not in SIDES or other.view == SERVER_VIEW != side.view
            if side.backend not in SIDES or not is_baseline or side.target != other.target:
                continue
            names = dict(
                backend=side.backend,
                view=side.view,
                target=side.target,
                baseline=other.backend,
                baseline_view=other.view,
            )
            ratio = Effect.of(time_ratio(other, other.best_chunk, side, side.best_chunk))
            reason = None if ratio else "fewer than two rounds have times of both"
            speedups.append(Speedup(**names, effect=ratio, reason=reason))
    return speedups
