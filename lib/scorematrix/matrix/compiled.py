"""Compile every JAX cell of a plan with the real compiler of an absent target: proof without hardware."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from concurrent.futures import Future
from typing import Any

from scorematrix.matrix.compilers import CompilerProcesses, find_compiler
from scorematrix.matrix.memory import largest_call, mesh_on, step_tokens_on
from scorematrix.matrix.params import Params
from scorematrix.matrix.workloads import build_workload
from scorematrix.models import read_description
from scorematrix.models.flops import scoring_flops
from scorematrix.privacy import redacted
from scorematrix.readiness.targets import Target, target
from scorematrix.results import CompiledCell, CompiledRecord
from scorematrix.scoring.mesh import Mesh
from scorematrix.scoring.packing import packed_shape
from scorematrix.scoring.shared_prefix import lay_out_replica_steps
from scorematrix.workload import ScoreRequest


def compile_cells(params: Params, target_name: str, on_cell: Callable[[CompiledCell], None]) -> CompiledRecord:
    """Compile the largest call of every (view, chunk size) of backend jax for a TPU or CUDA target.

    Cells that share a program are compiled once. A cell that kills the compiler's process is recorded as failed, and
    the next one uses a new process. Without the CUDA compiler every cell records what to install.

    Args:
        on_cell: called for each cell, in the plan's order.

    Raises:
        ValueError: for a target without a compiler, a missing TPU compiler, or a plan without jax.
    """
    where = target(target_name)
    if where.chip is None or (where.topology is None and where.cuda is None):
        raise ValueError(
            f"target={target_name!r} cannot be compiled for without its device; TPU and GPU targets can: tpu-v6e-1, "
            "gpu-h100"
        )
    compiler = find_compiler(where)
    views = next((choice.views for choice in params.backends if choice.backend == "jax"), None)
    if views is None:
        raise ValueError("backends does not list jax; there is nothing to compile")
    workload = build_workload(params)
    dtype = "bfloat16" if params.dtype == "auto" else params.dtype
    wanted = [
        (view, size, largest_call(workload, size)) for view in views for size in params.chunk_sizes_of("jax", view)
    ]
    cells: list[CompiledCell] = []
    answers: dict[Hashable, Future[dict[str, Any]]] = {}
    with CompilerProcesses(compiler) as processes:
        for view, _, call in wanted:
            if (key := _program(params, where, view, call)) not in answers:
                answers[key] = processes.ask(_question(params, where, view, dtype, call))
        for view, chunk_size, call in wanted:
            answer = answers[_program(params, where, view, call)].result()
            mesh = params.mesh_of("jax", view, where.name)
            floor = _floor(params, where, call, mesh)
            cells.append(_cell(where, view, chunk_size, dtype, {**answer, **floor, "mesh": mesh}))
            on_cell(cells[-1])
    return CompiledRecord(
        target=where.name,
        model=params.model,
        params_sha256=params.sha256,
        workload_sha256=workload.sha256,
        compiler=compiler.name,
        cells=cells,
    )


def _program(params: Params, where: Target, view: str, call: ScoreRequest) -> Hashable:
    """Return what a call's programs depend on, beyond what all cells of a plan share."""
    if view == "portable":
        return view, packed_shape(call)
    n_replicas = mesh_on(where, params, "jax", view).data
    laid_out = lay_out_replica_steps(call, _step_tokens(params, where, view), n_replicas, query_known=False)
    return view, tuple(steps[0].shape for steps in laid_out)


def _step_tokens(params: Params, where: Target, view: str) -> int:
    return step_tokens_on(where, read_description(params.model).config, mesh_on(where, params, "jax", view))


def _question(params: Params, where: Target, view: str, dtype: str, call: ScoreRequest) -> dict[str, Any]:
    assert where.chip is not None  # `compile_cells` refuses such targets
    return {
        "model": params.model,
        "view": view,
        "dtype": dtype,
        "platform": where.kind,
        "topology": where.topology,
        "cuda": where.cuda,
        "memory_bytes": where.device_bytes,
        "bytes_per_second": where.chip.memory_bytes_per_second,
        "query_tokens": len(call.query_ids),
        "item_tokens": [len(ids) for ids in call.items_ids],
        "n_labels": len(call.label_ids),
        "apply_softmax": call.apply_softmax,
        "step_tokens": _step_tokens(params, where, view),
        "mesh": params.mesh_of("jax", view, where.name),
    }


def _floor(params: Params, where: Target, call: ScoreRequest, mesh: str | None) -> dict[str, Any]:
    """Return the fewest operations of a call, and their time at the datasheet peak of the devices used."""
    assert where.chip is not None  # `compile_cells` refuses such targets
    flops = scoring_flops(read_description(params.model).config, len(call.query_ids), list(map(len, call.items_ids)))
    n_devices = Mesh.parse(mesh).size if mesh else 1
    peak = where.chip.bfloat16_flops_per_second / where.devices_a_chip * n_devices
    return {"floor_flops": flops, "floor_seconds": flops / peak}


def _cell(where: Target, view: str, chunk_size: int, dtype: str, answer: dict[str, Any]) -> CompiledCell:
    assert where.device_bytes is not None  # `compile_cells` refuses such targets
    fields: dict[str, Any] = answer | {"error": redacted(answer["error"]) if answer.get("error") else None}
    return CompiledCell(
        **fields,
        backend="jax",
        view=view,
        chunk_size=chunk_size,
        dtype=dtype,
        chip_bytes=where.device_bytes,
    )
