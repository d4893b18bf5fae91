"""Runs made up from tables: real documents with invented times, for everything after the measuring."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np

from scorematrix.matrix import Params, chunk_order, load_params, needed_targets, plan_rounds
from scorematrix.matrix.workloads import call_flops, call_tokens, floor_flops
from scorematrix.readiness import Machine, check_readiness
from scorematrix.readiness.devices import FrameworkDevices
from scorematrix.results import (
    BackendRecord,
    Ceilings,
    Cell,
    Environment,
    Manifest,
    Noise,
    PlannedRound,
    Probes,
    Readiness,
    Round,
    RunStore,
    Setup,
)
from scorematrix.results.status import one_reference
from scorematrix.workload import Workload, WorkloadRequest

HERE = Path(__file__).parent
CPU_ONLY = Machine(
    nvidia=(),
    nvidia_evidence="nvidia-smi is not on PATH",
    has_tpu=False,
    tpu_evidence="no /dev/accel* device node",
    frameworks={"jax": FrameworkDevices((("cpu", "cpu"),)), "pytorch": FrameworkDevices(())},
)
ENVIRONMENT = Environment(
    machine_sha256="m" * 64, cpu="Test CPU", n_cores=2, affinity=[0, 1], memory_bytes=1, load_average=0.1,
    platform="Linux", python="3.11", packages={}, variables={}, git_commit="c" * 40, git_dirty=False,
)  # fmt: skip

NOISE = Noise(seconds=10, load_average=0.5, others_share=0.01, stolen_share=0.0)
CEILINGS = Ceilings(dtype="float32", matmul_size=1, matmul_flops_per_second=1e9, copy_bytes_per_second=1e9)
FLOOR_FLOPS = 10**8
"""A pass of a tenth of a second would be at the ceiling."""

Seconds = Callable[[str, int, int], float]
"""(backend, round index, chunk size) -> seconds a pass."""


def make_params(**changes: object) -> Params:
    return load_params(HERE / "fixtures" / "tiny.yaml", {"rounds": 5, **changes})


def make_workload() -> Workload:
    requests = [
        WorkloadRequest(
            id=f"q{q}", query_ids=[1, 2, 3], items_ids=[[10 + i, q] for i in range(8)], label_ids=[100, 200],
            item_texts=[f"item <{i}>" for i in range(8)], gold=[i % 2 for i in range(8)], label_texts=[" yes", " no"],
        )
        for q in range(2)
    ]  # fmt: skip
    return Workload(name="made up", origin="tests", apply_softmax=True, tokenizer_sha256=None, requests=requests)


def make_scores(noise: float = 0.0, seed: int = 1) -> list[list[list[float]]]:
    first = np.random.default_rng(1).uniform(0.05, 0.95, (2, 8))
    first = first + np.random.default_rng(seed).uniform(-noise, noise, first.shape)
    return [[[float(p), float(1 - p)] for p in row] for row in first]


def equal_seconds(backend: str, index: int, chunk_size: int) -> float:
    """Both sides alike, 0.1 % scatter, larger chunks faster."""
    scatter = np.random.default_rng([index, chunk_size, len(backend)]).normal(0, 0.001)
    return (2.0 + 4.0 / chunk_size) * float(np.exp(scatter))


def make_cell(seconds: float, chunk_size: int, **changes: object) -> Cell:
    ns = make_passes(seconds, chunk_size)
    return Cell(**({"chunk_size": chunk_size, "status": "ok", "call_ns": ns, "warmup_ns": ns, "scores": make_scores(),
                    "pass_deviation": 0.0} | changes))  # fmt: skip


def make_passes(seconds: float, chunk_size: int, n: int = 2) -> list[list[list[int]]]:
    """So many passes over two requests, each of so many seconds."""
    calls = 8 // chunk_size or 1
    return [[[int(seconds * 1e9 / 2 / calls)] * calls for _ in range(2)] for _ in range(n)]


def make_probes(seconds: float, chunk_size: int, **changes: object) -> Probes:
    passes = make_passes(seconds, chunk_size)
    return Probes(
        **({"chunk_size": chunk_size, "fresh_ns": passes, "repeat_ns": passes, "neighbours_moved": 0.0} | changes)
    )


def make_cells(planned: PlannedRound, params: Params, seconds: Seconds) -> list[Cell]:
    """What a round of this kind would have measured; a control is its twin with another scatter, and 5 % slower."""
    cells = []
    for size in chunk_order(params, planned):
        taken = seconds(planned.backend, planned.index, size)
        if planned.role == "control":
            taken *= float(np.exp(np.random.default_rng([planned.index, 99]).normal(0, 0.001)))
            cells.append(make_cell(taken * 1.05, size, slowdown=1.05))
        cells.append(make_cell(taken, size))
    return cells


def stamp(position: int) -> str:
    """When a round at this place began: an hour each, one after the other."""
    return (datetime(2026, 1, 1, tzinfo=UTC) + timedelta(hours=position)).isoformat()


def make_round(
    planned: PlannedRound, params: Params, workload: Workload, cells: list[Cell], **changes: object
) -> Round:
    framework = "jax" if planned.backend == "jax" else "pytorch"
    return Round(**({
        **planned.model_dump(), "run_id": "made-up", "started_utc": stamp(planned.position),
        "finished_utc": stamp(planned.position + 1), "params_sha256": params.sha256,
        "workload_sha256": workload.sha256, "weights_sha256": "w" * 64, "cells": cells, "environment": ENVIRONMENT,
        "record": BackendRecord(framework=framework, device="cpu", dtype="float32", precision="float32"),
        "setup": Setup(load_model_seconds=1, load_backend_seconds=1, prepare_seconds=1),
        "ceilings": CEILINGS if planned.role == "tuning" else None,
        "probes": make_probes(1.0, max(c.chunk_size for c in cells)) if planned.role == "tuning" else None,
        "noise": NOISE,
    } | changes))  # fmt: skip


def make_run(
    params: Params | None = None,
    *,
    seconds: Seconds = equal_seconds,
    machine: Machine = CPU_ONLY,
    keep: Callable[[PlannedRound], bool] = lambda _: True,
    edit: Callable[[Round], Round] = lambda r: r,
    run_id: str = "made-up",
) -> tuple[Manifest, Workload, Readiness, list[Round]]:
    """Manifest, workload, readiness and the rounds that are ready on the machine and kept."""
    params = params or make_params()
    workload = make_workload()
    plan = plan_rounds(params)
    readiness = check_readiness(needed_targets(params), machine, "Test CPU")
    rounds = []
    for planned in one_reference([p for p in plan if readiness.skip(p.target, p.backend) is None], ()):
        if not keep(planned):
            continue
        cells = make_cells(planned, params, seconds)
        rounds.append(edit(make_round(planned, params, workload, cells, run_id=run_id)))
    manifest = Manifest(
        run_id=run_id, created_utc="2026-01-01T00:00:00+00:00", scorematrix="0",
        params=params.model_dump(mode="json"),
        params_sha256=params.sha256, workload_sha256=workload.sha256, floor_flops=FLOOR_FLOPS, plan=plan,
        call_flops={size: FLOOR_FLOPS * (8 // size) * (4 + size) // 4 for size in params.chunk_sizes},
        call_tokens={size: 100 * (8 // size) for size in params.chunk_sizes},
    )  # fmt: skip
    return manifest, workload, readiness, rounds


def write_run(folder: Path, **options: object) -> RunStore:
    """A made-up run on disk."""
    store = RunStore(folder)
    manifest, workload, readiness, rounds = make_run(**options)
    store.write_workload(workload)
    store.write_manifest(manifest)
    store.write_readiness(readiness)
    for round_ in rounds:
        store.write_round(round_)
    return store


def true_counts(params: Params, workload: Workload) -> dict[str, object]:
    """The counts that `scorematrix validate` expects in run.json."""
    sizes = params.all_chunk_sizes
    return {
        "workload_sha256": workload.sha256,
        "floor_flops": floor_flops(params, workload),
        "call_flops": {size: call_flops(params, workload, size) for size in sizes},
        "call_tokens": {size: call_tokens(workload, size) for size in sizes},
    }


def write_valid_run(folder: Path) -> RunStore:
    """A made-up run whose counts are those of its model."""
    store = write_run(folder)
    manifest = store.manifest()
    counts = true_counts(Params.model_validate(manifest.params), store.workload())
    store.write_manifest(Manifest(**(manifest.model_dump(exclude={"sha256"}) | counts)))
    return store


def changed(round_: Round, **changes: object) -> Round:
    """A round with other values, sealed anew."""
    return Round(**(round_.model_dump(exclude={"sha256"}) | changes))
