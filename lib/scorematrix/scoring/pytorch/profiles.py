"""PyTorch's part of `scoring.profiles`: run torch.profiler and group operations by their `record_function`."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any

import torch
from torch.profiler import ProfilerActivity, profile, record_function

from scorematrix.scoring.profiles import PARTS, timed
from scorematrix.workload.request import ScoreRequest

if TYPE_CHECKING:
    from scorematrix.scoring.pytorch.best_native import BestNativeBackend

PRODUCTS = re.compile(r"aten::(add)?mm$|cpu_(add)?mm_out$|linear_pointwise|gemm|nvjet|cutlass|xmma", re.IGNORECASE)
"""Operations and kernels that multiply matrices."""


def part(name: str) -> AbstractContextManager[Any]:
    """Label the operations launched in this context with a part. Without an active profiler it does nothing."""
    return record_function(name) if torch.autograd.profiler._is_profiler_enabled else nullcontext()


def profiled_parts(backend: BestNativeBackend, request: ScoreRequest) -> tuple[float, list[tuple[str, float]]]:
    """Profile one call: its seconds, and (part, seconds) of each operation (CPU) or kernel (GPU)."""
    graphs, backend._graphs = backend._graphs, None  # a kernel replayed from a CUDA graph has no launching operation
    on_gpu = backend._device.type == "cuda"
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if on_gpu else [])]
    try:
        if graphs is not None:
            backend.score(request)
        with profile(activities=activities, acc_events=True) as profiler:
            seconds = timed(lambda: backend.score(request))
    finally:
        backend._graphs = graphs
    return seconds, list(read_events(profiler.events() or [], on_gpu))


def read_events(events: Any, on_gpu: bool) -> Iterator[tuple[str, float]]:
    """Yield (part, seconds): each operation's self time on a CPU, each launched kernel on a GPU."""
    for event in events:
        named = _named(event)
        if on_gpu:
            for kernel in event.kernels:
                yield _part(named, kernel.name), kernel.duration / 1e6
        elif event.self_cpu_time_total and event.name not in PARTS:
            yield _part(named, event.name), event.self_cpu_time_total / 1e6


def _named(event: Any) -> str | None:
    """Return the innermost part around an event."""
    while event is not None:
        if event.name in PARTS:
            return event.name
        event = event.cpu_parent
    return None


def _part(named: str | None, operation: str) -> str:
    """Return an operation's part. A matrix product outside the named parts multiplies by weights."""
    return named or ("linear" if PRODUCTS.search(operation) else "other")
