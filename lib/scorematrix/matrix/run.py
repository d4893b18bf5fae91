"""Filling a run folder: prepare once, then one papermill execution per round, skipping what is there already."""

from __future__ import annotations

import errno
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import scorematrix
from scorematrix.matrix.params import Params
from scorematrix.matrix.plan import chunk_order, needed_targets, plan_rounds
from scorematrix.matrix.workloads import build_workload, call_flops, call_tokens, floor_flops
from scorematrix.measure.environment import cpu_name
from scorematrix.models import locate
from scorematrix.notebooks import NotebookFailed, execute_notebook
from scorematrix.privacy import redacted
from scorematrix.readiness import check_readiness, frameworks_in, probe_machine
from scorematrix.results import (
    Cell,
    CompiledRecord,
    Manifest,
    PlannedRound,
    Readiness,
    RecordStore,
    Round,
    RunStore,
    StorageFailed,
    TargetRecord,
    keep_reached,
)
from scorematrix.results.times import utc_now

NOTEBOOK = "02_score_matrix"


@dataclass(frozen=True)
class Progress:
    """An event for whoever draws progress: a round begins, ends, was there already, or was lost with its node.

    Attributes:
        note: on which node of a cluster, or how it was lost; empty in a run on this machine.
    """

    state: Literal["begin", "end", "kept", "lost"]
    planned: PlannedRound
    done: int
    total: int
    round: Round | None = None
    note: str = ""


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
        lost = not store.has_workload()
        workload = build_workload(params) if lost else store.workload()
        if (found := workload.sha256) != manifest.workload_sha256:
            raise ValueError(
                f"{store.folder}/workload.json: sha256={found[:12]}... differs from run.json's workload_sha256="
                f"{manifest.workload_sha256[:12]}...; it belongs to another run, start a new one"
            )
        store.rounds()
        if lost:
            with store.lock():
                store.write_workload(workload)
        return
    locate(params.model)
    workload = build_workload(params)
    with store.lock():
        store.write_workload(workload)
        # Until this machine has been looked at nothing is known to be ready: a report can be made from here on.
        now = utc_now()
        store.write_readiness(Readiness(checked_utc=now, machine=cpu_name(), states=[]))
        store.write_manifest(
            Manifest(
                run_id=store.folder.name,
                created_utc=now,
                scorematrix=scorematrix.__version__,
                params=params.model_dump(mode="json"),
                params_sha256=params.sha256,
                workload_sha256=workload.sha256,
                floor_flops=floor_flops(params, workload),
                call_flops={size: call_flops(params, workload, size) for size in params.all_chunk_sizes},
                call_tokens={size: call_tokens(workload, size) for size in params.all_chunk_sizes},
                plan=plan_rounds(params),
            )
        )


def fill_run(
    params: Params,
    store: RunStore,
    *,
    only: Collection[str] | None = None,
    retry_failed: bool = False,
    records: RecordStore | None = None,
    written: Mapping[str, TargetRecord] | None = None,
    settled: Callable[[], bool] = lambda: False,
    on_progress: Callable[[Progress], None] = lambda _: None,
) -> None:
    """Run every planned round that is ready here and not yet recorded.

    A round that failed is a result and is kept; `retry_failed` measures it again.

    Args:
        records: what was tried for targets that this machine may lack, and what their compilers proved.
        written: the same, by target, written by hand; it stands before what is recorded.
        settled: asked before each index beyond `rounds`; where it holds, the rounds that are left are not needed.

    Raises:
        ValueError: for a run folder that is damaged, in use, or of other params.
        StorageFailed: where the disk takes no more; the round in flight is lost, and no other.
    """
    prepare_run(params, store)
    with store.lock():
        tried, compiled = known_records(params, store, records, written)
        needed = needed_targets(params)
        machine = probe_machine(frameworks_in(needed))
        readiness = check_readiness(needed, machine, cpu_name(), only, tried, compiled, params.places)
        todo, kept = open_plan(params, store, readiness, retry_failed)
        asked_at = params.tuning_rounds + params.rounds
        for done, planned in enumerate(todo):
            if planned.index >= asked_at:
                if settled():
                    break
                asked_at = planned.index + 1
            if planned.name in kept:
                on_progress(Progress("kept", planned, done + 1, len(todo), kept[planned.name]))
                continue
            on_progress(Progress("begin", planned, done, len(todo)))
            result = execute_round(params, store, planned)
            on_progress(Progress("end", planned, done + 1, len(todo), result))


def known_records(
    params: Params, store: RunStore, records: RecordStore | None, written: Mapping[str, TargetRecord] | None
) -> tuple[dict[str, TargetRecord], list[CompiledRecord]]:
    """What is known of targets beforehand: what was tried to get them, and what their compilers proved."""
    tried = (records.read() if records else {}) | dict(written or {})
    return tried, records.compiled(params.model, store.manifest().workload_sha256) if records else []


def open_plan(
    params: Params, store: RunStore, readiness: Readiness, retry_failed: bool
) -> tuple[list[PlannedRound], dict[str, Round]]:
    """Record the readiness; the planned rounds that can run, and those of them that are recorded and stay, by name."""
    recorded = {round_.name: round_ for round_ in store.rounds()}
    store.write_readiness(keep_reached(readiness, recorded.values()))
    todo = [planned for planned in plan_rounds(params) if is_ready(readiness, planned)]
    return todo, {name: round_ for name, round_ in recorded.items() if not (retry_failed and _failed(round_))}


def execute_round(params: Params, store: RunStore, planned: PlannedRound) -> Round:
    """One fresh kernel for one round, and another for what is left where a cell ends it. A record is always made."""
    store.drop_round(planned.name)
    began = time.monotonic()
    error = "the notebook ended without a record"
    pending = len(chunk_order(params, planned))
    for _ in range(pending + 1):
        try:
            execute_notebook(
                NOTEBOOK,
                store.notebook_path(f"{NOTEBOOK}.{planned.name}"),
                {"run_dir": str(store.folder.resolve()), **planned.model_dump()},
                timeout_seconds=params.round_timeout_seconds,
            )
        except NotebookFailed as failure:
            if (
                failure.raised and failure.raised[0] == StorageFailed.__name__
            ):  # the next rounds would end like this one
                reason, _, path = failure.raised[1].partition(": ")
                raise StorageFailed(errno.EIO, reason, path) from None
            error = redacted(str(failure))
        if store.round_path(planned.name).is_file():
            return store.round(planned.name)
        draft = store.draft(planned.name)
        if draft is None:  # it ended before any cell began: another process would too
            break
        draft, pending = _after_death(draft, pending, error, time.monotonic() - began)
        if not pending:
            store.write_round(draft)
            return draft
        store.write_draft(draft)
    lost = lost_round(params, store, planned, error, time.monotonic() - began)
    store.write_round(lost)
    return lost


def _after_death(draft: Round, pending: int, error: str, seconds: float) -> tuple[Round, int]:
    """The draft of a process that ended, and how many cells are left; one that made no headway died of its cell.

    Args:
        seconds: since the round began: what a process spent after its last word is the round's time too.
    """
    cells = list(draft.cells)
    left = [i for i, cell in enumerate(cells) if cell.status == "not_run"]
    if len(left) == pending:
        i = left.pop(0)
        cells[i] = Cell(chunk_size=cells[i].chunk_size, status="failed", error=error)
    known = draft.model_dump(exclude={"sha256", "cells", "seconds", "finished_utc"})
    return Round(**known, cells=cells, seconds=seconds, finished_utc=utc_now()), len(left)


def is_ready(readiness: Readiness, planned: PlannedRound) -> bool:
    """Whether this machine can run the round now."""
    state = readiness.state(planned.target, planned.backend)
    return state is not None and state.state == "ready"


def _failed(round_: Round) -> bool:
    return any(cell.status != "ok" for cell in round_.cells)


def lost_round(params: Params, store: RunStore, planned: PlannedRound, error: str, seconds: float) -> Round:
    """The record of a round that left none itself: every cell failed, with the reason."""
    manifest = store.manifest()
    now = utc_now()
    return Round(
        run_id=manifest.run_id,
        **planned.model_dump(),
        started_utc=now,
        finished_utc=now,
        seconds=seconds,
        params_sha256=manifest.params_sha256,
        workload_sha256=manifest.workload_sha256,
        cells=[Cell(chunk_size=size, status="failed", error=error) for size in chunk_order(params, planned)],
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
