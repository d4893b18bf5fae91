"""Fill a run folder: prepare once, then execute papermill once per round, skipping recorded rounds."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

import scorematrix
from scorematrix.matrix.budget import Budget
from scorematrix.matrix.group import measure_group
from scorematrix.matrix.params import Params, load_params
from scorematrix.matrix.plan import needed_targets, plan_groups, plan_rounds
from scorematrix.matrix.turns import seeds_for
from scorematrix.matrix.workloads import build_workload, call_flops, call_tokens, floor_flops
from scorematrix.measure.environment import cpu_name
from scorematrix.models import locate
from scorematrix.notebook_kernels import sweep_kernels
from scorematrix.readiness import check_readiness, frameworks_in, probe_machine
from scorematrix.results import (
    CompiledRecord,
    Manifest,
    PlannedRound,
    Readiness,
    RecordStore,
    Round,
    RunStore,
    TargetRecord,
    Waiting,
    keep_reached,
)
from scorematrix.results.files import utc_now
from scorematrix.results.status import runnable

LONGEST_ID = 100


class Choice(NamedTuple):
    """What tuning chose for a side; None: nothing to choose, or nothing chosen yet."""

    chunk_size: int | None = None
    waiting: Waiting | None = None
    attention: str | None = None


Chosen = Callable[[], Mapping[tuple[str, str, str], Choice]]
"""Returns tuning's choices by backend, view and target."""


@dataclass(frozen=True)
class Progress:
    """A progress event: a round begins, ends, was recorded before, or was lost with its node.

    Attributes:
        note: the cluster's node, or how the round was lost; empty in a run on this machine.
    """

    state: Literal["begin", "end", "kept", "lost"]
    planned: PlannedRound
    done: int
    total: int
    round: Round | None = None
    note: str = ""


def prepare_run(params: Params, store: RunStore) -> None:
    """Fix params and workload before the first round, or check that the folder has the same ones.

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
        store.rounds()
        if store.has_workload():
            store.workload()
            return
        workload = build_workload(params)
        if (actual := workload.sha256) != manifest.workload_sha256:
            raise ValueError(
                f"{store.folder}/workload.json is missing, and the params now give sha256={actual[:12]}..., not "
                f"run.json's workload_sha256={manifest.workload_sha256[:12]}...; put it back, or start a new run"
            )
        with store.lock():
            store.write_workload(workload)
        return
    locate(params.model)
    workload = build_workload(params)
    with store.lock():
        store.write_workload(workload)
        # Nothing is known to be ready until this machine has been checked, but a report can be made from here on.
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
    chosen: Chosen = dict,
    on_progress: Callable[[Progress], None] = lambda _: None,
) -> None:
    """Run every planned round that is ready here and not yet recorded.

    A round that failed is a result and is kept; `retry_failed` measures it again. One whose process ended by itself, or
    ran out of memory, is measured again once.

    Args:
        records: attempts to get targets that this machine may lack, and the results of their compilers.
        written: hand-written records by target; they take precedence over `records`.
        chosen: returns what tuning rounds chose; called before each group.
        settled: called before each index beyond `rounds`; if it is true, the remaining rounds are not needed.

    Raises:
        ValueError: for a run folder that is damaged, in use, or of other params.
        StorageFailed: if the disk cannot be written; only the round in flight is lost.
    """
    prepare_run(params, store)
    sweep_kernels()
    with store.lock():
        readiness = _readiness_here(params, store, only, records, written)
        todo, kept = open_plan(params, store, readiness, retry_failed)
        groups, done, asked_at = groups_of(params, todo), 0, params.tuning_rounds + params.rounds
        budget = Budget(params, groups)
        for group in groups:
            if group[0].index >= asked_at:
                if settled():
                    break
                asked_at = group[0].index + 1
            left = [planned for planned in group if planned.name not in kept]
            for planned in group:
                if planned not in left:
                    done += 1
                    on_progress(Progress("kept", planned, done, len(todo), kept[planned.name]))
            for planned in left:
                on_progress(Progress("begin", planned, done, len(todo)))
            store.note("begun", *(planned.name for planned in left))
            began = time.monotonic()
            rounds = _measured(params, store, left, group, chosen, budget)
            budget.took(group, rounds, time.monotonic() - began)
            for planned, result in zip(left, rounds, strict=True):
                done += 1
                store.note_end(result)
                on_progress(Progress("end", planned, done, len(todo), result))


def prepare_here(
    params: Params,
    store: RunStore,
    *,
    only: Collection[str] | None = None,
    records: RecordStore | None = None,
    written: Mapping[str, TargetRecord] | None = None,
) -> list[PlannedRound]:
    """Prepare a run and measure nothing; return the rounds that can run here and are not recorded yet.

    Args and errors: see `fill_run`.
    """
    prepare_run(params, store)
    with store.lock():
        todo, kept = open_plan(params, store, _readiness_here(params, store, only, records, written), False)
    return [planned for planned in todo if planned.name not in kept]


def _readiness_here(
    params: Params,
    store: RunStore,
    only: Collection[str] | None,
    records: RecordStore | None,
    written: Mapping[str, TargetRecord] | None,
) -> Readiness:
    tried, compiled = known_records(params, store, records, written)
    needed = needed_targets(params)
    machine = probe_machine(frameworks_in(needed))
    return check_readiness(needed, machine, cpu_name(), only, tried, compiled, params.places)


def _measured(
    params: Params,
    store: RunStore,
    left: Sequence[PlannedRound],
    group: Sequence[PlannedRound],
    chosen: Chosen,
    budget: Budget,
) -> list[Round]:
    if not left:
        return []
    because = "others of its group were measured before" if len(left) < len(group) else None
    tuned, sizes = as_tuned(left, chosen)
    seeds = seeds_for(left, reference_round(store))
    return measure_group(params, store, tuned, sizes, budget.share(group), because, seeds)


def reference_round(store: RunStore) -> Round | None:
    """Return the run's reference round, None before it is recorded."""
    names = [planned.name for planned in store.manifest().plan if planned.role == "reference"]
    return next((store.round(name) for name in names if store.round_path(name).is_file()), None)


def as_tuned(group: Sequence[PlannedRound], chosen: Chosen) -> tuple[list[PlannedRound], dict[str, int]]:
    """Return the rounds with the waiting and attention that tuning chose, and the chosen chunk sizes by round name."""
    known, tuned, sizes = chosen(), [], {}
    for planned in group:
        choice = known.get((planned.backend, planned.view, planned.target), Choice())
        if planned.role != "tuning":  # tuning tries every choice
            waiting = planned.waiting or choice.waiting  # the params may name one
            planned = planned.model_copy(update={"waiting": waiting, "attention": choice.attention})
        tuned.append(planned)
        if choice.chunk_size is not None:
            sizes[planned.name] = choice.chunk_size
    return tuned, sizes


def groups_of(params: Params, todo: Sequence[PlannedRound]) -> list[list[PlannedRound]]:
    """Return the plan's groups, reduced to the rounds that can run here."""
    ready = {planned.name for planned in todo}
    groups = [[planned for planned in group if planned.name in ready] for group in plan_groups(params)]
    return [group for group in groups if group]


def known_records(
    params: Params, store: RunStore, records: RecordStore | None, written: Mapping[str, TargetRecord] | None
) -> tuple[dict[str, TargetRecord], list[CompiledRecord]]:
    """Return what is known of targets beforehand: attempts to get them, and the results of their compilers."""
    tried = (records.read() if records else {}) | dict(written or {})
    return tried, records.compiled(params.model, store.manifest().workload_sha256) if records else []


def open_plan(
    params: Params, store: RunStore, readiness: Readiness, retry_failed: bool
) -> tuple[list[PlannedRound], dict[str, Round]]:
    """Record the readiness; return the planned rounds that can run, and the recorded rounds to keep, by name."""
    recorded = {round_.name: round_ for round_ in store.rounds()}
    store.write_readiness(keep_reached(readiness, recorded.values()))
    todo = runnable(plan_rounds(params), readiness, recorded)
    again = {name for name, round_ in recorded.items() if _is_measured_again(store, round_, retry_failed)}
    return todo, {name: round_ for name, round_ in recorded.items() if name not in again}


def _is_measured_again(store: RunStore, round_: Round, retry_failed: bool) -> bool:
    if retry_failed:
        return any(cell.status != "ok" for cell in round_.cells)
    crashes = [one for one in store.earlier_tries(round_.name) if one.outcome == "crashed"]
    return any(cell.crashed for cell in round_.cells) and len(crashes) == 1


def run_folder(outputs: Path | str, run_id: str) -> Path:
    """Return the folder of a run.

    Raises:
        ValueError: if the id is not a plain folder name.
    """
    allowed = all(c.isalnum() or c in "._-" for c in run_id)
    if not run_id or run_id.startswith(".") or not allowed or len(run_id) > LONGEST_ID:
        raise ValueError(
            f"run_id={run_id!r} must be at most {LONGEST_ID} letters, digits, '.', '_' and '-', and not start with '.'"
        )
    return Path(outputs) / "runs" / run_id


def scratch_run(params_file: str | Path) -> str:
    """Prepare a run in a temporary folder, for a round that is executed by hand; return the folder."""
    params = load_params(params_file)
    store = RunStore(Path(tempfile.mkdtemp(prefix="scorematrix-")) / params.name)
    prepare_run(params, store)
    return str(store.folder)
