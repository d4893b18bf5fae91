"""Where a call's time goes: one call under the framework's own profiler, outside all timing, part by part."""

from __future__ import annotations

import importlib
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Protocol, cast

from scorematrix.models.config import DecoderConfig
from scorematrix.models.flops import linear_flops, pair_flops
from scorematrix.scoring.contract import Backend
from scorematrix.workload.request import ScoreRequest

PARTS = ("linear", "query_attention", "prefix_attention", "own_items", "head", "other")
"""linear: products with weights. query_attention: the query over itself. prefix_attention: items over the query.
own_items: an item over itself, and joining that. head: logits and softmax. other: norms, rotary embedding, gates,
copies, and what a compiler fused across parts."""
FRAMEWORKS = ("jax", "pytorch")


@dataclass(frozen=True)
class PartTime:
    """One part of a call.

    Attributes:
        seconds: taken by its operations or kernels together; they may overlap.
        n: how many there were.
        flops: operations of the mathematics, over the real tokens; None where nobody counts them.
    """

    part: str
    seconds: float
    n: int
    flops: int | None


@dataclass(frozen=True)
class CallProfile:
    """One profiled call, which is slower than a timed one by what the profiler takes.

    Attributes:
        seconds: from the call to its scores on the host.
    """

    seconds: float
    parts: tuple[PartTime, ...]


class Profiler(Protocol):
    """What a framework's `profiles` module offers: part, and seconds, of every operation or kernel of one call."""

    def profiled_parts(self, backend: Any, request: ScoreRequest) -> tuple[float, Iterable[tuple[str, float]]]: ...


def profile_call(backend: Backend, config: DecoderConfig, request: ScoreRequest) -> CallProfile | None:
    """Profile one call of a best-native engine; None for any other backend.

    What the engine does in this call may be launched or compiled otherwise than in a timed one, where a profiler could
    not see into it: CUDA graphs are left out.
    """
    if (
        backend.info.framework not in FRAMEWORKS
        or backend.info.view != "best_native"
        or "mesh" in backend.info.settings
    ):
        return None
    profiler = cast("Profiler", importlib.import_module(f"scorematrix.scoring.{backend.info.framework}.profiles"))
    seconds, events = profiler.profiled_parts(backend, request)
    flops = part_flops(config, request)
    sums = {part: [0.0, 0] for part in PARTS}
    for part, taken in events:
        sums[part][0] += taken
        sums[part][1] += 1
    return CallProfile(seconds, tuple(PartTime(p, s, int(n), flops.get(p)) for p, (s, n) in sums.items()))


def part_flops(config: DecoderConfig, request: ScoreRequest) -> dict[str, int]:
    """The fewest operations of each part that has any to count, the last layer as any other."""
    q, lengths = len(request.query_ids), [len(ids) for ids in request.items_ids]
    causal = [n * (n + 1) // 2 for n in (q, *lengths)]
    return {
        "linear": linear_flops(config, q + sum(lengths)),
        "query_attention": pair_flops(config, causal[0]),
        "prefix_attention": pair_flops(config, q * sum(lengths)),
        "own_items": pair_flops(config, sum(causal[1:])),
    }


def timed(call: Callable[[], object]) -> float:
    """Seconds of one call."""
    start = time.perf_counter()
    call()
    return time.perf_counter() - start
