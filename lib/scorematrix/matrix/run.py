"""Filling a run folder: prepare once, then one papermill execution per round, skipping what is there already."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

import scorematrix
from scorematrix.matrix.params import Params
from scorematrix.matrix.plan import needed_targets, plan_rounds
from scorematrix.matrix.workloads import build_workload, floor_flops
from scorematrix.measure.environment import cpu_name
from scorematrix.models import locate
from scorematrix.notebooks import NotebookFailed, execute_notebook
from scorematrix.readiness import check_readiness, probe_machine
from scorematrix.results import Cell, Manifest, PlannedRound, Readiness, Round, RunStore

NOTEBOOK = "02_score_matrix"


@dataclass(frozen=True)
class Progress:
    """An event for whoever draws progress: a round begins, ends, or was there already."""

    state: Literal["begin", "end", "kept"]
    planned: PlannedRound
    done: int
    total: int
    round: Round | None = None


def prepare_run(params: Params, store: RunStore) -> None:
    """Fix params and workload before the first round, or check that the folder holds the same.

    Raises:
        ValueError: for a workload the model cannot score, or a folder that belongs to other params; nothing is written.
    """
    if store.exists():
        manifest = store.manifest()
        if manifest.params_sha256 != params.sha256:
            raise ValueError(
                f"run_id={manifest.run_id!r} was started with params_sha256={manifest.params_sha256[:12]}..., these "
                f"params have {params.sha256[:12]}...; choose another --run-id"
            )
        if (found := store.workload().sha256) != manifest.workload_sha256:
            raise ValueError(
                f"{store.folder}/workload.json: sha256={found[:12]}... differs from run.json's workload_sha256="
                f"{manifest.workload_sha256[:12]}...; it belongs to another run, start a new one"
            )
        store.rounds()
        return
    locate(params.model)
    workload = build_workload(params)
    with store.lock():
        store.write_workload(workload)
        store.write_manifest(
            Manifest(
                run_id=store.folder.name,
                created_utc=datetime.now(UTC).isoformat(timespec="seconds"),
                scorematrix=scorematrix.__version__,
                params=params.model_dump(mode="json"),
                params_sha256=params.sha256,
                workload_sha256=workload.sha256,
                floor_flops=floor_flops(params, workload),
                plan=plan_rounds(params),
            )
        )


def fill_run(
    params: Params,
    store: RunStore,
    *,
    only: Collection[str] | None = None,
    retry_failed: bool = False,
    on_progress: Callable[[Progress], None] = lambda _: None,
) -> None:
    """Run every planned round that is ready here and not yet recorded.

    A round that failed is a result and is kept; `retry_failed` measures it again.

    Raises:
        ValueError: for a run folder that is damaged, in use, or of other params.
    """
    prepare_run(params, store)
    with store.lock():
        readiness = check_readiness(needed_targets(params), probe_machine(), cpu_name(), only)
        recorded = {round_.name: round_ for round_ in store.rounds()}
        store.write_readiness(keep_reached(readiness, recorded.values()))
        todo = [planned for planned in plan_rounds(params) if is_ready(readiness, planned)]
        for done, planned in enumerate(todo):
            before = recorded.get(planned.name)
            if before is not None and not (retry_failed and _failed(before)):
                on_progress(Progress("kept", planned, done + 1, len(todo), before))
                continue
            on_progress(Progress("begin", planned, done, len(todo)))
            result = execute_round(params, store, planned)
            on_progress(Progress("end", planned, done + 1, len(todo), result))


def execute_round(params: Params, store: RunStore, planned: PlannedRound) -> Round:
    """One fresh kernel for one round. However it ends, a record of it is in the store."""
    path = store.round_path(planned.name)
    path.unlink(missing_ok=True)
    error: str | None = None
    try:
        execute_notebook(
            NOTEBOOK,
            store.notebook_path(f"{NOTEBOOK}.{planned.name}"),
            {"run_dir": str(store.folder.resolve()), **planned.model_dump()},
            timeout_seconds=params.round_timeout_seconds,
        )
    except NotebookFailed as failure:
        error = str(failure)
    if not path.is_file():
        store.write_round(_lost_round(params, store, planned, error or "the notebook ended without a record"))
    return store.round(planned.name)


def is_ready(readiness: Readiness, planned: PlannedRound) -> bool:
    """Whether this machine can run the round now."""
    state = readiness.state(planned.target, planned.backend)
    return state is not None and state.state == "ready"


def keep_reached(readiness: Readiness, rounds: Collection[Round]) -> Readiness:
    """What has rounds already is no longer skipped, whatever this machine, now, can do."""
    reached = {(r.target, r.backend) for r in rounds if any(cell.status == "ok" for cell in r.cells)}
    states = [
        s.model_copy(update={"state": "ready", "reason": None, "next_step": None, "evidence": "rounds are recorded"})
        if s.state == "skipped" and (s.target, s.backend) in reached
        else s
        for s in readiness.states
    ]
    return Readiness(checked_utc=readiness.checked_utc, machine=readiness.machine, states=states)


def _failed(round_: Round) -> bool:
    return any(cell.status != "ok" for cell in round_.cells)


def _lost_round(params: Params, store: RunStore, planned: PlannedRound, error: str) -> Round:
    manifest = store.manifest()
    now = datetime.now(UTC).isoformat(timespec="seconds")
    sizes = params.chunk_sizes_of(planned.backend, planned.view)
    return Round(
        run_id=manifest.run_id,
        **planned.model_dump(),
        started_utc=now,
        finished_utc=now,
        params_sha256=manifest.params_sha256,
        workload_sha256=manifest.workload_sha256,
        cells=[Cell(chunk_size=size, status="failed", error=error) for size in sizes],
        error=error,
    )


def run_folder(outputs: Path | str, run_id: str) -> Path:
    """Where a run of an id is kept.

    Raises:
        ValueError: for an id that is no plain folder name.
    """
    if not run_id or run_id.startswith(".") or not all(c.isalnum() or c in "._-" for c in run_id):
        raise ValueError(f"run_id={run_id!r} must be letters, digits, '.', '_' and '-', and not start with '.'")
    return Path(outputs) / "runs" / run_id
