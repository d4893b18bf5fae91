"""torch.compile as the engines use it: one graph for all lengths, and a count of what was compiled."""

from __future__ import annotations

import functools
import importlib
from collections.abc import Callable
from typing import NamedTuple, ParamSpec, TypeVar

import torch
from torch import Tensor

from scorematrix.scoring.pytorch.compiles import compiles_so_far

P = ParamSpec("P")
R = TypeVar("R")


class CompileCounts(NamedTuple):
    """Graphs compiled by this process so far, and how many of them came from the cache on disk."""

    n_graphs: int
    n_cached: int

    def __sub__(self, other: CompileCounts) -> CompileCounts:
        return CompileCounts(self.n_graphs - other.n_graphs, self.n_cached - other.n_cached)


def compiled(function: Callable[P, R]) -> Callable[P, R]:
    """Compile on first use; nothing of PyTorch's compiler is imported before."""

    @functools.cache
    def make() -> Callable[P, R]:
        # Every model shape, dtype and length class of a process has its graph; PyTorch would stop at 8.
        torch._dynamo.config.recompile_limit = 256
        # On a GPU, search tile sizes of memory-bound kernels: 3 % of a call on an H200, for seconds of compiling.
        return torch.compile(function, fullgraph=True, options={"coordinate_descent_tuning": torch.cuda.is_available()})

    @functools.wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        return make()(*args, **kwargs)

    return call


def load_compiler() -> None:
    """Import PyTorch's compiler, seconds of work that belong to loading: what prepares is then measured alone."""
    importlib.import_module("torch._inductor.compile_fx")


def any_length(x_t: Tensor) -> Tensor:
    """Mark the first dimension as one whose length changes from call to call: no graph is tied to it."""
    torch._dynamo.maybe_mark_dynamic(x_t, 0)
    return x_t


def compile_counts() -> CompileCounts:
    """Read PyTorch's own counters."""
    # A graph found whole in one cache is not looked up in the other.
    counters = torch._dynamo.utils.counters
    return CompileCounts(
        compiles_so_far(),
        max(counters["inductor"]["fxgraph_cache_hit"], counters["aot_autograd"]["autograd_cache_hit"]),
    )
