"""Compile functions for a CPU ahead of time (AOTInductor) and cache them on disk as shared libraries."""

from __future__ import annotations

import fcntl
import hashlib
import inspect
import os
import tempfile
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor

from scorematrix.models import config
from scorematrix.models.cache import cache_folder
from scorematrix.models.weights import LayerWeights
from scorematrix.scoring.pytorch import model, products
from scorematrix.scoring.pytorch.compiles import COUNTS

OPTIONS = {
    # The wrapper only calls kernels. Optimizing it takes half of the compile time and makes no call faster.
    "aot_inductor.compile_wrapper_opt_level": "O0",
    "cpp.enable_kernel_profile": True,  # so that a profile names the kernels
}


class Program(Protocol):
    """A compiled function. Its inputs are in the order of `flat`."""

    def run(self, inputs: list[Tensor], /) -> list[Tensor]: ...


def flat(args: Sequence[Any]) -> list[Tensor]:
    """List the tensor arguments, then the leaves of every `LayerWeights`."""
    rows = [one for one in args if isinstance(one, Tensor)]
    return rows + [leaf for one in args if isinstance(one, LayerWeights) for leaf in one.named.values()]


def signature(args: Sequence[Any]) -> tuple[Any, ...]:
    """Return all that a program depends on in its arguments: constants, strides, dtypes, every size but the first.

    Size 1 is compiled separately, because it broadcasts.
    """

    def described(one: Any) -> Any:
        if isinstance(one, Tensor):
            return min(one.shape[0], 2), *one.shape[1:], one.stride(), one.dtype
        if isinstance(one, LayerWeights):
            return tuple((name, leaf.shape, leaf.stride(), leaf.dtype) for name, leaf in one.named.items())
        return one

    return tuple(map(described, args))


def load_program(function: Callable[..., Any], args: Sequence[Any]) -> Program:
    """Load the program of a function for arguments like these; compile it if it is not in the cache.

    If several processes need the same program, one compiles it and the others wait.
    """
    folder = cache_folder() / "compiled" / "pytorch"
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{function.__name__}-{_digest(function, args)}.so"
    with path.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if path.is_file():
            COUNTS.loaded += 1
        else:
            _compile(function, args, path)
            COUNTS.made += 1
    runner = torch._C._aoti.AOTIModelContainerRunnerCpu  # pyright: ignore[reportAttributeAccessIssue]
    return runner(str(path), 1)


def _compile(function: Callable[..., Any], args: Sequence[Any], path: Path) -> None:
    import torch._inductor

    if products.ONEDNN:
        products.let_programs_call_onednn()
    with (
        torch.inference_mode(False),
        torch.no_grad(),
        tempfile.TemporaryDirectory(dir=path.parent) as folder,
        warnings.catch_warnings(action="ignore"),  # PyTorch warns about deprecated calls that it makes internally
    ):
        # Only sizes, strides and dtypes matter, not values.
        examples = [torch.empty_strided(t.shape, t.stride(), dtype=t.dtype) for t in flat(args)]
        n_rows = sum(isinstance(one, Tensor) for one in args)
        any_length = {0: torch.export.Dim.DYNAMIC}
        shapes = [any_length if i < n_rows and t.shape[0] > 1 else None for i, t in enumerate(examples)]
        program = torch.export.export(_Call(function, args), (examples,), dynamic_shapes=(shapes,))
        library = f"{folder}/{path.name}"
        torch._inductor.aot_compile(
            program.module(), (examples,), options=OPTIONS | {"aot_inductor.output_path": library}
        )
        os.replace(library, path)


class _Call(torch.nn.Module):
    """A function with its constants bound. It takes the list that `flat` makes."""

    def __init__(self, function: Callable[..., Any], args: Sequence[Any]) -> None:
        super().__init__()
        self._function, self._args = function, args

    def forward(self, tensors: list[Tensor]) -> Any:
        left = iter(tensors)
        args = [next(left) if isinstance(one, Tensor) else one for one in self._args]
        return self._function(
            *(one.mapped(lambda _: next(left)) if isinstance(one, LayerWeights) else one for one in args)
        )


def _digest(function: Callable[..., Any], args: Sequence[Any]) -> str:
    """Hash all that a program depends on: source code, PyTorch, processor, threads and arguments."""
    digest = hashlib.sha256()
    for source in (inspect.getfile(function), config.__file__, model.__file__, products.__file__, __file__):
        digest.update(Path(source).read_bytes())
    machine = (torch.__version__, _processor(), torch.get_num_threads())
    digest.update(repr((function.__qualname__, machine, signature(args))).encode())
    return digest.hexdigest()[:20]


def _processor() -> str:
    """Return model and features of the processor: a program uses all of its instructions."""
    try:
        lines = Path("/proc/cpuinfo").read_text().split("\n\n")[0].splitlines()
    except OSError:
        lines = []
    features = [line for line in lines if line.startswith(("model name", "flags", "Features"))]
    return "\n".join(features) or " ".join(os.uname())
