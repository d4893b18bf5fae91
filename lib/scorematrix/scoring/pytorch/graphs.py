"""CUDA graphs: record once what a step launches, and replay it with one call.

A step of few items ends sooner than the host can launch its kernels one by one. Only the steps of requests passed to
`prepare` are recorded, each by its exact shape. Other steps are launched as on any device.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from scorematrix.scoring.pytorch.attention import Prefix
from scorematrix.scoring.shared_prefix import ProgramKey

MOST_GRAPHS = 64
Launch = Callable[[ProgramKey, Tensor, list[Prefix] | None], tuple[Tensor, list[Prefix] | None]]
"""Runs `score_step` with inputs on the device, and the query's keys and values if the step needs them."""
Record = Callable[[Callable[[], Tensor]], tuple[Callable[[], None], Tensor]]
"""From a function that launches a step to one that replays it, and the tensor that then contains the result."""


class StepGraph(NamedTuple):
    """A recorded step, and the memory that it reads and writes on each launch."""

    inputs: Tensor
    prefix: PrefixMemory | None
    launch: Callable[[], None]
    probabilities_sc: Tensor


class PrefixMemory:
    """The memory from which graphs read the query's keys and values.

    Args:
        blank: keys and values of the longest query's size.
    """

    def __init__(self, blank: list[Prefix]) -> None:
        self._whole = blank
        self._held: list[Prefix] | None = None

    @property
    def n_query(self) -> int:
        """Tokens of the longest query that fits."""
        return self._whole[0].keys_qkh.shape[0]

    def of_length(self, n_query: int) -> list[Prefix]:
        """Return the part that a query of this length uses."""
        return [Prefix(layer.keys_qkh[:n_query], layer.values_qkh[:n_query]) for layer in self._whole]

    def hold(self, prefix: list[Prefix]) -> None:
        """Copy a query's keys and values in, unless they are already there."""
        if prefix is not self._held:
            mine = self.of_length(prefix[0].keys_qkh.shape[0])
            into, source = [x for layer in mine for x in layer], [x for layer in prefix for x in layer]
            torch._foreach_copy_(into, source)  # pyright: ignore[reportPrivateImportUsage]  # there is no public name
            self._held = prefix


class StepGraphs:
    """Recorded steps by program key. They share their working memory, because only one runs at a time.

    Args:
        limit: most steps that are kept.

    Attributes:
        shortfall: why a step could not be recorded; None while all are recorded.
    """

    def __init__(self, limit: int = MOST_GRAPHS, record: Record | None = None) -> None:
        self._limit, self._record = limit, record or cuda_recorder()
        self._graphs: dict[ProgramKey, StepGraph] = {}
        self._prefix: PrefixMemory | None = None
        self.shortfall: str | None = None

    def __len__(self) -> int:
        return len(self._graphs)

    def __contains__(self, key: ProgramKey) -> bool:
        return key in self._graphs

    def record(self, key: ProgramKey, launch: Launch, inputs: Tensor, blank_prefix: Callable[[], list[Prefix]]) -> None:
        """Record a step, if there is room for it.

        Args:
            inputs: valid inputs, on the device.
            blank_prefix: allocates keys and values for the longest known query.
        """
        if self.shortfall:
            return
        if len(self._graphs) == self._limit:
            self.shortfall = f"{self._limit} shapes of steps are recorded as CUDA graphs, which is the limit"
            return
        try:
            memory = given = None
            if not key.shape.with_query:
                if self._prefix is None or self._prefix.n_query < key.shape.q:
                    self._prefix = PrefixMemory(blank_prefix())  # graphs recorded before keep theirs
                memory, given = self._prefix, self._prefix.of_length(key.shape.q)
            graph, result = self._record(lambda: launch(key, inputs, given)[0])
        except RuntimeError as error:  # out of memory included
            why = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
            self.shortfall = f"recording a step as a CUDA graph failed after {len(self._graphs)} others: {why}"
            return
        self._graphs[key] = StepGraph(inputs, memory, graph, result)

    def run(self, key: ProgramKey, inputs: Tensor, given: list[Prefix] | None) -> Tensor:
        """Return the probabilities of a recorded step. `inputs` may be on the host."""
        graph = self._graphs[key]
        graph.inputs.copy_(inputs)
        if graph.prefix is not None:
            assert given is not None
            graph.prefix.hold(given)
        graph.launch()
        return graph.probabilities_sc.clone()  # the next launch overwrites it


def cuda_recorder() -> Record:
    """Return a recorder for the current CUDA device."""
    memory = torch.cuda.graph_pool_handle()

    def record(launch: Callable[[], Tensor]) -> tuple[Callable[[], None], Tensor]:
        # Launch once beforehand to compile and load everything: that cannot be recorded.
        current, aside = torch.cuda.current_stream(), torch.cuda.Stream()
        aside.wait_stream(current)
        with torch.cuda.stream(aside):
            launch()
        current.wait_stream(aside)
        graph = torch.cuda.CUDAGraph()
        try:
            # Other threads, such as a memory sampler, may continue to call CUDA.
            with torch.cuda.graph(graph, pool=memory, capture_error_mode="thread_local"):
                result = launch()
        finally:
            torch.cuda.set_stream(current)  # a failed recording does not restore it
        return graph.replay, result

    return record
