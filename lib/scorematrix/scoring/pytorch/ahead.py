"""Programs for a CPU, compiled ahead of time by AOTInductor and kept in the cache folder as shared libraries."""

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

from scorematrix.models.cache import cache_folder
from scorematrix.models.weights import LayerWeights
from scorematrix.scoring.pytorch import model
from scorematrix.scoring.pytorch.compiles import COUNTS

OPTIONS = {
    # The wrapper only calls kernels: optimizing it takes half of the time and gains nothing.
    "aot_inductor.compile_wrapper_opt_level": "O0",
    "cpp.enable_kernel_profile": True,  # a profile names the kernels
}


class Program(Protocol):
    """A function of tensors: those of the call, then the leaves of its `LayerWeights`."""

    def run(self, inputs: list[Tensor], /) -> list[Tensor]: ...


class Plain:
    """What stands for a program where PyTorch is told not to compile."""

    def __init__(self, function: Callable[..., Any], args: Sequence[Any]) -> None:
        self._call = _Call(function, args)

    def run(self, inputs: list[Tensor]) -> list[Tensor]:
        found = self._call(inputs)
        return [found] if isinstance(found, Tensor) else list(found)


def load_program(function: Callable[..., Any], args: Sequence[Any]) -> Program:
    """The program of a function for arguments like these, from disk or compiled now.

    Of several processes that need the same one, one compiles and the others wait.
    """
    if os.environ.get("TORCHDYNAMO_DISABLE") == "1":
        return Plain(function, args)
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

    with (
        torch.inference_mode(False),
        torch.no_grad(),
        tempfile.TemporaryDirectory(dir=path.parent) as folder,
        warnings.catch_warnings(action="ignore"),  # of what PyTorch will change in itself
    ):
        call = _Call(function, args)
        # Neither values nor the length matter; strides do.
        examples = [torch.empty_strided(t.shape, t.stride(), dtype=t.dtype) for t in call.tensors(args)]
        n_rows = sum(isinstance(one, Tensor) for one in args)
        any_length = {0: torch.export.Dim.DYNAMIC}
        shapes = [any_length if i < n_rows and t.shape[0] > 1 else None for i, t in enumerate(examples)]
        program = torch.export.export(call, (examples,), dynamic_shapes=(shapes,))
        library = f"{folder}/{path.name}"
        torch._inductor.aot_compile(
            program.module(), (examples,), options=OPTIONS | {"aot_inductor.output_path": library}
        )
        os.replace(library, path)


class _Call(torch.nn.Module):
    """A function with its constants bound: what is left are tensors, in a list."""

    def __init__(self, function: Callable[..., Any], args: Sequence[Any]) -> None:
        super().__init__()
        self._function = function
        self._names = [name for one in args if isinstance(one, LayerWeights) for name in one.names]
        # Tensors go by their kind: a program that lives on does not keep those of its first call.
        kinds = (Tensor, LayerWeights)
        self._args = [next((kind for kind in kinds if isinstance(one, kind)), one) for one in args]

    @staticmethod
    def tensors(args: Sequence[Any]) -> list[Tensor]:
        """Those of the call, then the leaves of its `LayerWeights`."""
        rows = [one for one in args if isinstance(one, Tensor)]
        return rows + [leaf for one in args if isinstance(one, LayerWeights) for leaf in one.leaves]

    def forward(self, tensors: list[Tensor]) -> Any:
        rows, leaves = iter(tensors), dict(zip(self._names, tensors[self._args.count(Tensor) :], strict=True))
        args = [next(rows) if a is Tensor else LayerWeights(**leaves) if a is LayerWeights else a for a in self._args]
        return self._function(*args)


def _digest(function: Callable[..., Any], args: Sequence[Any]) -> str:
    """Of all that a program depends on: PyTorch, the processor, threads, the function's source and its arguments."""
    digest = hashlib.sha256()
    for source in (inspect.getfile(function), model.__file__, __file__):
        digest.update(Path(source).read_bytes())
    digest.update(repr((torch.__version__, _processor(), torch.get_num_threads(), function.__qualname__)).encode())
    digest.update(repr([one for one in args if not isinstance(one, Tensor | LayerWeights)]).encode())
    n_rows = sum(isinstance(one, Tensor) for one in args)
    for i, tensor in enumerate(_Call.tensors(args)):
        length = min(tensor.shape[0], 2) if i < n_rows else tensor.shape[0]
        digest.update(repr((length, *tensor.shape[1:], tensor.stride(), tensor.dtype)).encode())
    return digest.hexdigest()[:20]


def _processor() -> str:
    """What tells one kind of processor from another: programs use all of its instructions."""
    try:
        lines = Path("/proc/cpuinfo").read_text().split("\n\n")[0].splitlines()
    except OSError:
        lines = []
    told = [line for line in lines if line.startswith(("model name", "flags", "Features"))]
    return "\n".join(told) or " ".join(os.uname())
