"""Compile a view's programs for an absent TPU or GPU: the real compiler, no device, no weights.

Run this in a separate process: a process that loads libtpu owns the TPU until it ends, and a compiler may abort.
`python -m scorematrix.scoring.jax.compile_only` reads one JSON cell per line and answers with one line per cell.
"""

from __future__ import annotations

import atexit
import functools
import json
import re
import shutil
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

from jax.experimental import topologies

from scorematrix.models.catalogue import read_description
from scorematrix.models.config import DecoderConfig
from scorematrix.scoring.jax import best_native, cuda_chips, portable, sharded
from scorematrix.scoring.jax.assembler import ask_for_dumps, attention_kernels, find_assembler
from scorematrix.scoring.jax.attention import attention_forms
from scorematrix.scoring.jax.device import weight_shapes
from scorematrix.scoring.jax.estimates import estimate
from scorematrix.scoring.mesh import Mesh
from scorematrix.scoring.sharding import repeated_kv
from scorematrix.scoring.shared_prefix import keyed_steps
from scorematrix.workload.request import ScoreRequest

BYTES = {"": 1, "K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}


def main() -> None:
    for line in sys.stdin:
        print(json.dumps(compile_cell(json.loads(line))), flush=True)


def compile_cell(cell: dict[str, Any]) -> dict[str, Any]:
    """Compile the programs of one cell's largest call.

    Args:
        cell: model, view, dtype, platform, topology (of a TPU), cuda (the figures of a GPU), memory_bytes,
            bytes_per_second, query_tokens, item_tokens, n_labels, apply_softmax, step_tokens, mesh (None: one device).
    """
    start = time.perf_counter()
    try:
        result = _found(cell)
    except Exception as error:
        text = str(error)
        over = _exceeded(text)
        status = "too_large" if over is not None or "RESOURCE_EXHAUSTED" in text else "failed"
        return {"status": status, "error": text[:4000], "over_bytes": over, "seconds": time.perf_counter() - start}
    total = result["arguments_bytes"] + result["temporaries_bytes"] + result["outputs_bytes"] + result["code_bytes"]
    over = total - cell["memory_bytes"]
    fits = {"status": "compiled"} if over <= 0 else {"status": "too_large", "over_bytes": over}
    return {**result, **fits, "seconds": time.perf_counter() - start}


def _found(cell: dict[str, Any]) -> dict[str, Any]:
    """Return the largest sizes among the call's programs on a chip, and the compiler's estimate for all of them."""
    request = ScoreRequest(
        (1,) * cell["query_tokens"],
        tuple((1,) * n for n in cell["item_tokens"]),
        tuple(range(cell["n_labels"])),
        cell["apply_softmax"],
    )
    dumps = _dumps() if cell["platform"] == "gpu" else None
    programs = _programs(cell, read_description(cell["model"]).config, request)
    analyses = [program.memory_analysis() for program, _ in programs]
    estimated = estimate(programs)
    if dumps is not None:
        text = "\n".join(program.as_text() or "" for program, _ in programs)
        estimated["kernels"] = attention_kernels(dumps, text, find_assembler())
    return {
        "arguments_bytes": max(a.argument_size_in_bytes for a in analyses),
        "temporaries_bytes": max(a.temp_size_in_bytes for a in analyses),
        "outputs_bytes": max(a.output_size_in_bytes for a in analyses),
        "code_bytes": max(a.generated_code_size_in_bytes for a in analyses),
        "estimate": estimated,
    }


@functools.cache
def _dumps() -> Path:
    """Return the folder to which XLA dumps PTX. It is deleted when this process ends."""
    folder = ask_for_dumps()
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


def _chips(cell: dict[str, Any]) -> list[Any]:
    if cell["platform"] == "gpu":
        chip = cuda_chips.Chip(*cell["cuda"])
        return [cuda_chips.compile_only_device(chip, cell["memory_bytes"], cell["bytes_per_second"])]
    topology = cell["topology"]
    # One host has all chips: "v6e:2x4" is eight chips. Several hosts would need a process on each.
    sides = [int(side) for side in topology.partition(":")[2].split("x")]
    bounds = [*sides, *[1] * (3 - len(sides))]
    return topologies.get_topology_desc(platform="tpu", topology_name=topology, chips_per_host_bounds=bounds).devices


def _programs(cell: dict[str, Any], config: DecoderConfig, request: ScoreRequest) -> list[tuple[Any, int]]:
    """Compile a call's programs, and return each with the number of steps that run it."""
    chips, dtype = _chips(cell), cell["dtype"]
    form = attention_forms(cell["platform"], dtype, config.head_dim)[0]
    if (text := cell["mesh"]) is not None:
        mesh = Mesh.parse(text)
        over = sharded.mesh_of(mesh, chips[: mesh.size])
        steps = sharded.keyed_steps(request, cell["step_tokens"], mesh.data)
        weights = weight_shapes(repeated_kv(config, mesh), dtype, sharded.placement(over))
        keys = Counter(key for _, key in steps)
        return [(sharded.compile_program(config, weights, key, form, over)[0], n) for key, n in keys.items()]
    weights = weight_shapes(config, dtype, chips[0])
    if cell["view"] == "portable":
        return [(portable.compile_program(config, weights, portable.program_key(request), chips[0])[0], 1)]
    keys = Counter(key for _, key in keyed_steps(request, cell["step_tokens"]))
    return [(best_native.compile_program(config, weights, key, form, chips[0])[0], n) for key, n in keys.items()]


def _exceeded(text: str) -> int | None:
    """Return by how many bytes a program is too large, from the compiler's error; None if it gives no number."""
    match = re.search(r"[Ee]xceeded \w+ capacity by ([\d.]+)([KMGT]?)", text)
    return int(float(match[1]) * BYTES[match[2]]) if match else None


if __name__ == "__main__":
    main()
