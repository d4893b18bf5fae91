"""Compile the engines' functions, one program for all lengths, and count the programs.

On a CPU functions are compiled ahead of time and cached on disk. Loading a cached program takes milliseconds; importing
PyTorch's compiler and tracing the function again would take ten seconds. Other devices use torch.compile.
"""

from __future__ import annotations

import functools
import importlib
import os
from collections.abc import Callable
from typing import Any, Literal, NamedTuple, TypeVar, TypeVarTuple

import torch
from torch import Tensor

from scorematrix.scoring.pytorch.ahead import Program, flat, load_program, signature
from scorematrix.scoring.pytorch.compiles import COUNTS, compiler_counters, compiles_so_far

Ts = TypeVarTuple("Ts")
R = TypeVar("R")


class CompileCounts(NamedTuple):
    """Programs compiled by this process so far, and how many of them came from the cache on disk."""

    n_graphs: int
    n_cached: int

    def __sub__(self, other: CompileCounts) -> CompileCounts:
        return CompileCounts(self.n_graphs - other.n_graphs, self.n_cached - other.n_cached)


def compiled(function: Callable[[*Ts], R]) -> Callable[[*Ts], R]:
    """Compile a function on its first call.

    Tensor arguments may have any first dimension; leaves of a `LayerWeights` may have any values. All else is a
    constant of the program.
    """
    programs: dict[tuple[Any, ...], Program] = {}

    @functools.cache
    def just_in_time() -> Callable[[*Ts], R]:
        # Every model shape, dtype and length class of a process has its graph; PyTorch would stop at 8.
        torch._dynamo.config.recompile_limit = 256
        # On a GPU, search tile sizes of memory-bound kernels: 3 % of a call on an H200, for seconds of compiling.
        return torch.compile(function, fullgraph=True, options={"coordinate_descent_tuning": torch.cuda.is_available()})

    @functools.wraps(function)
    def call(*args: *Ts) -> R:
        tensors = flat(args)
        mode = compile_mode(tensors[0].device)
        if mode == "off":
            return function(*args)
        if mode == "torch.compile":
            for one in args:
                if isinstance(one, Tensor):
                    torch._dynamo.maybe_mark_dynamic(one, 0)
            return just_in_time()(*args)
        key = signature(args)
        if key not in programs:
            programs[key] = load_program(function, args)
        results = programs[key].run(tensors)
        return results[0] if len(results) == 1 else tuple(results)  # pyright: ignore[reportReturnType]

    return call


def compile_mode(device: torch.device) -> Literal["ahead of time", "torch.compile", "off"]:
    """Return how functions are compiled. PyTorch's environment variables can disable it or choose a compiler."""
    if os.environ.get("TORCHDYNAMO_DISABLE") == "1":
        return "off"
    if device.type != "cpu" or os.environ.get("TORCH_COMPILE_OVERRIDE_BACKENDS"):
        return "torch.compile"
    return "ahead of time"


def load_compiler(device: torch.device) -> None:
    """Import PyTorch's compiler where every process needs it. The import takes seconds and counts as loading."""
    if compile_mode(device) == "torch.compile":
        importlib.import_module("torch._inductor.compile_fx")


def compile_counts() -> CompileCounts:
    """Read PyTorch's counters and ours."""
    cached = COUNTS.loaded
    if counters := compiler_counters():
        # A complete hit in one cache skips the lookup in the other.
        cached += max(counters["inductor"]["fxgraph_cache_hit"], counters["aot_autograd"]["autograd_cache_hit"])
    return CompileCounts(compiles_so_far(), cached)
