"""Profile one call of an engine with the framework's profiler, and split its time by part."""

from __future__ import annotations

import importlib
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Protocol, cast

from scorematrix.models.config import DecoderConfig
from scorematrix.models.flops import linear_flops, pair_flops
from scorematrix.scoring.ceilings import PROBED
from scorematrix.scoring.contract import Backend
from scorematrix.workload.request import ScoreRequest

PARTS = ("linear", "query_attention", "prefix_attention", "own_items", "head", "other")
"""linear: products with weights. query_attention: the query to itself. prefix_attention: items to the query.
own_items: each item to itself, and the merge. head: logits and softmax. other: norms, rotary embedding, gates, copies,
and fusions that span parts."""


@dataclass(frozen=True)
class PartTime:
    """One part of a call.

    Attributes:
        seconds: sum over its operations or kernels, which may overlap.
        n: number of operations or kernels.
        flops: floating-point operations for the real tokens; None for parts without matrix products.
    """

    part: str
    seconds: float
    n: int
    flops: int | None


@dataclass(frozen=True)
class CallProfile:
    """One profiled call. The profiler makes it slower than a timed call.

    Attributes:
        seconds: from the call to the scores on the host.
    """

    seconds: float
    parts: tuple[PartTime, ...]


class Profiler(Protocol):
    """The interface of a framework's `profiles` module."""

    def profiled_parts(self, backend: Any, request: ScoreRequest) -> tuple[float, Iterable[tuple[str, float]]]: ...


def profile_call(backend: Backend, config: DecoderConfig, request: ScoreRequest) -> CallProfile | None:
    """Profile one call of a best-native engine on one device; return None for any other backend.

    The call runs without CUDA graphs, which hide kernels from the profiler.
    """
    info = backend.info
    if info.backend not in PROBED or info.view != "best_native" or "mesh" in info.settings:
        return None
    profiler = cast("Profiler", importlib.import_module(f"scorematrix.scoring.{info.framework}.profiles"))
    seconds, events = profiler.profiled_parts(backend, request)
    flops = part_flops(config, request)
    sums = {part: [0.0, 0] for part in PARTS}
    for part, taken in events:
        sums[part][0] += taken
        sums[part][1] += 1
    return CallProfile(seconds, tuple(PartTime(p, s, int(n), flops.get(p)) for p, (s, n) in sums.items()))


def part_flops(config: DecoderConfig, request: ScoreRequest) -> dict[str, int]:
    """Count the least floating-point operations of each part with matrix products. The head is not counted."""
    q, lengths = len(request.query_ids), [len(ids) for ids in request.items_ids]
    causal = [n * (n + 1) // 2 for n in (q, *lengths)]
    return {
        "linear": linear_flops(config, q + sum(lengths)),
        "query_attention": pair_flops(config, causal[0]),
        "prefix_attention": pair_flops(config, q * sum(lengths)),
        "own_items": pair_flops(config, sum(causal[1:])),
    }


def timed(call: Callable[[], object]) -> float:
    """Return the seconds of one call."""
    start = time.perf_counter()
    call()
    return time.perf_counter() - start
