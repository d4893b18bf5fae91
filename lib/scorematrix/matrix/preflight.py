"""Check before running: what is ready here for a plan, and whether a file is sound."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from scorematrix.matrix.memory import refused_cells
from scorematrix.matrix.params import Params, load_params
from scorematrix.matrix.plan import needed_targets, plan_rounds
from scorematrix.matrix.workloads import build_workload, call_flops, call_tokens, floor_flops
from scorematrix.measure.environment import cpu_name
from scorematrix.models import locate
from scorematrix.readiness import TARGETS, check_readiness, frameworks_in, probe_machine, target
from scorematrix.results import PROTOCOL, Readiness, Round, RunStore, TargetRecord, read_document
from scorematrix.scoring.registry import BACKENDS, backend_entry, registered_backends
from scorematrix.text_files import parse_json, read_text
from scorematrix.workload import Workload


def preflight_readiness(
    params: Params | None = None,
    only_target: str | None = None,
    records: Mapping[str, TargetRecord] | None = None,
) -> Readiness:
    """Return what is ready here for a plan; without one, for every known target.

    Args:
        records: attempts to get targets that this machine may lack, by target.

    Raises:
        ValueError: for an unknown target or an unavailable model.
    """
    if only_target is not None:
        target(only_target)
    if params is not None:
        locate(params.model)
        needed = needed_targets(params)
    else:
        needed = [
            (where.name, name, list(entry.views))
            for where in TARGETS.values()
            for name in (*BACKENDS, *registered_backends())
            if not (entry := backend_entry(name)).is_live
            if where.kind in entry.device_kinds
        ]
    needed = [row for row in needed if only_target in (None, row[0])]
    places = params.places if params else None
    machine = probe_machine(frameworks_in(needed))
    return check_readiness(needed, machine, cpu_name(), records=records, servers=places)


def unfit_cells(params: Params) -> list[str]:
    """Return a line for each cell of a plan that cannot fit its accelerator's memory.

    A hub model is not downloaded for this; its rounds check it when they start.
    """
    is_here = not locate(params.model).startswith("Hugging Face hub")
    return refused_cells(params, build_workload(params)) if is_here else []


def validate_path(path: Path) -> str:
    """Check a params file, workload, round or run folder; return a description of it.

    Raises:
        ValueError: names the file and what is wrong with it.
    """
    if path.is_dir():
        store = RunStore(path)
        rounds = store.rounds()
        store.readiness()
        return "; ".join(
            [f"a sound run with {len(rounds)} rounds", *_check_plan(store, rounds), *_unlisted(store, rounds)]
        )
    if path.suffix in (".yaml", ".yml"):
        return f"sound params, sha256 {load_params(path).sha256[:12]}..."
    keys = parse_json(read_text(path), str(path))
    if isinstance(keys, dict) and "requests" in keys:
        return f"a sound workload, {read_document(path, Workload).n_items} items"
    if isinstance(keys, dict) and "cells" in keys:
        return f"a sound round, {len(read_document(path, Round).cells)} cells"
    raise ValueError(f"{path} is neither a workload, a round, a run folder nor a params file")


def _check_plan(store: RunStore, rounds: Sequence[Round]) -> list[str]:
    """Check plan and counts against the params, seed and workload; return what cannot be checked here, and why.

    Raises:
        ValueError: if run.json has another plan or other counts than its params and workload give.
    """
    manifest, workload = store.manifest(), store.workload()
    try:
        params = Params.model_validate(manifest.params)
        plan = plan_rounds(params)
        is_here = not locate(params.model).startswith("Hugging Face hub")
    except ValueError as error:
        return [f"plan not checked: {str(error).splitlines()[0]}"]
    if any(r.protocol != PROTOCOL for r in rounds):
        return [f"plan not checked: it is of protocol {rounds[0].protocol}"]
    expected: dict[str, object] = {
        "plan": plan,
        "call_tokens": {size: call_tokens(workload, size) for size in params.all_chunk_sizes},
    }
    if is_here:
        expected["floor_flops"] = floor_flops(params, workload)
        expected["call_flops"] = {size: call_flops(params, workload, size) for size in params.all_chunk_sizes}
    for field, value in expected.items():
        if getattr(manifest, field) != value:
            raise ValueError(
                f"{store.folder.name}/run.json: {field} differs from what its params, seed and workload give; take the "
                "file from its source"
            )
    return [] if is_here else ["operation counts not checked: the model is not on this machine"]


def _unlisted(store: RunStore, rounds: Sequence[Round]) -> list[str]:
    listed = {entry.round for entry in store.journal()}
    missing = [r.name for r in rounds if r.name not in listed]
    return [f"{len(missing)} rounds are not in its journal, {missing[0]} first"] if missing else []
