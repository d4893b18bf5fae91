"""Compiled functions of the engines: one program for all lengths, and a count of what was compiled.

On a CPU a function is compiled ahead of time, and the program is kept on disk. A process that finds it there loads it
in milliseconds; importing the compiler of PyTorch and tracing anew take ten seconds. Other devices use torch.compile.
"""

from __future__ import annotations

import functools
import importlib
import os
from collections.abc import Callable
from typing import Any, NamedTuple, ParamSpec, TypeVar

import torch
from torch import Tensor

from scorematrix.models.weights import LayerWeights
from scorematrix.scoring.pytorch.ahead import Program, load_program
from scorematrix.scoring.pytorch.compiles import COUNTS, compiles_so_far

P = ParamSpec("P")
R = TypeVar("R")


class CompileCounts(NamedTuple):
    """Programs compiled by this process so far, and how many of them came from the cache on disk."""

    n_graphs: int
    n_cached: int

    def __sub__(self, other: CompileCounts) -> CompileCounts:
        return CompileCounts(self.n_graphs - other.n_graphs, self.n_cached - other.n_cached)


def compiled(function: Callable[P, R]) -> Callable[P, R]:
    """Compile on first use; nothing of PyTorch's compiler is imported before.

    Tensors among the arguments may have any first dimension. Everything else is a constant of the program, but for the
    leaves of a `LayerWeights`.
    """
    programs: dict[tuple[Any, ...], Program] = {}

    @functools.cache
    def just_in_time() -> Callable[P, R]:
        # Every model shape, dtype and length class of a process has its graph; PyTorch would stop at 8.
        torch._dynamo.config.recompile_limit = 256
        # On a GPU, search tile sizes of memory-bound kernels: 3 % of a call on an H200, for seconds of compiling.
        return torch.compile(function, fullgraph=True, options={"coordinate_descent_tuning": torch.cuda.is_available()})

    @functools.wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        rows = [one for one in args if isinstance(one, Tensor)]
        if not ahead_of_time(rows[0].device):
            for row in rows:
                torch._dynamo.maybe_mark_dynamic(row, 0)
            return just_in_time()(*args, **kwargs)
        leaves = [leaf for one in args if isinstance(one, LayerWeights) for leaf in one.leaves]
        key = (
            *(one for one in args if not isinstance(one, Tensor | LayerWeights)),
            # A first dimension of 1 broadcasts, and so has programs of its own.
            *((min(row.shape[0], 2), row.shape[1:], row.stride(), row.dtype) for row in rows),
            *((leaf.shape, leaf.dtype) for leaf in leaves),
        )
        program = programs.get(key)
        if program is None:
            program = programs[key] = load_program(function, args)
        found = program.run([*rows, *leaves])
        return found[0] if len(found) == 1 else tuple(found)  # pyright: ignore[reportReturnType]

    return call


def ahead_of_time(device: torch.device) -> bool:
    """Whether functions are compiled ahead of time, and not as PyTorch's own variables ask."""
    return device.type == "cpu" and not os.environ.get("TORCH_COMPILE_OVERRIDE_BACKENDS")


def load_compiler(device: torch.device) -> None:
    """Import PyTorch's compiler, seconds of work that belong to loading: what prepares is then measured alone."""
    if not ahead_of_time(device):
        importlib.import_module("torch._inductor.compile_fx")


def compile_counts() -> CompileCounts:
    """Read PyTorch's own counters and ours."""
    cached = COUNTS.loaded
    if compiles_so_far() > COUNTS.made + COUNTS.loaded:
        # A graph found whole in one cache is not looked up in the other.
        counters = torch._dynamo.utils.counters
        cached += max(counters["inductor"]["fxgraph_cache_hit"], counters["aot_autograd"]["autograd_cache_hit"])
    return CompileCounts(compiles_so_far(), cached)
