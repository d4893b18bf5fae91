"""CUDA graphs: what a step launches is recorded once, and launched again by one call.

A step of few items is over sooner than the host can launch its kernels one by one. Recorded are the
steps that `prepare` was told of, each by its exact shape; other steps are launched as on any device.
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
"""`score_step`, from inputs on the device and the query's keys and values where they are needed."""
Record = Callable[[Callable[[], Tensor]], tuple[Callable[[], None], Tensor]]
"""From what launches a step to what launches it again, and where its result lies then."""


class StepGraph(NamedTuple):
    """A recorded step, and the memory that it reads and writes whenever it is launched."""

    inputs: Tensor
    prefix: PrefixMemory | None
    launch: Callable[[], None]
    probabilities_sc: Tensor


class PrefixMemory:
    """Where graphs read the query's keys and values.

    Args:
        blank: of the longest query.
    """

    def __init__(self, blank: list[Prefix]) -> None:
        self._whole = blank
        self._held: list[Prefix] | None = None

    @property
    def n_query(self) -> int:
        """Tokens of the longest query that there is room for."""
        return self._whole[0].keys_qkh.shape[0]

    def of_length(self, n_query: int) -> list[Prefix]:
        """The part that a query of this length takes."""
        return [Prefix(layer.keys_qkh[:n_query], layer.values_qkh[:n_query]) for layer in self._whole]

    def hold(self, prefix: list[Prefix]) -> None:
        """Bring a query's in, unless they are there."""
        if prefix is not self._held:
            mine = self.of_length(prefix[0].keys_qkh.shape[0])
            into, source = [x for layer in mine for x in layer], [x for layer in prefix for x in layer]
            torch._foreach_copy_(into, source)  # pyright: ignore[reportPrivateImportUsage]  # it has no public name
            self._held = prefix


class StepGraphs:
    """Recorded steps by what they depend on; all share their working memory, for only one runs at a time.

    Args:
        limit: so many are kept at most.

    Attributes:
        shortfall: why a step that should have been recorded is not; None while all are.
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
            inputs: valid ones, on the device.
            blank_prefix: makes room for the keys and values of the longest query that is known of.
        """
        if self.shortfall:
            return
        if len(self._graphs) == self._limit:
            self.shortfall = f"{self._limit} shapes of steps are recorded as CUDA graphs, the most that are kept"
            return
        try:
            memory = given = None
            if not key.shape.with_query:
                if self._prefix is None or self._prefix.n_query < key.shape.q:
                    self._prefix = PrefixMemory(blank_prefix())  # graphs recorded before keep theirs
                memory, given = self._prefix, self._prefix.of_length(key.shape.q)
            graph, result = self._record(lambda: launch(key, inputs, given)[0])
        except RuntimeError as error:  # out of memory is one too
            why = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
            self.shortfall = f"recording a step as a CUDA graph failed, {len(self._graphs)} are recorded: {why}"
            return
        self._graphs[key] = StepGraph(inputs, memory, graph, result)

    def run(self, key: ProgramKey, inputs: Tensor, given: list[Prefix] | None) -> Tensor:
        """The probabilities of a recorded step; its inputs may be on the host."""
        graph = self._graphs[key]
        graph.inputs.copy_(inputs)
        if graph.prefix is not None:
            assert given is not None
            graph.prefix.hold(given)
        graph.launch()
        return graph.probabilities_sc.clone()  # the next launch writes over it


def cuda_recorder() -> Record:
    """Records on the current CUDA device."""
    memory = torch.cuda.graph_pool_handle()

    def record(launch: Callable[[], Tensor]) -> tuple[Callable[[], None], Tensor]:
        # Once beforehand, so that everything is compiled and loaded: nothing of that can be recorded.
        current, aside = torch.cuda.current_stream(), torch.cuda.Stream()
        aside.wait_stream(current)
        with torch.cuda.stream(aside):
            launch()
        current.wait_stream(aside)
        graph = torch.cuda.CUDAGraph()
        try:
            # Other threads, a sampler of memory say, may go on calling CUDA.
            with torch.cuda.graph(graph, pool=memory, capture_error_mode="thread_local"):
                result = launch()
        finally:
            torch.cuda.set_stream(current)  # a recording that fails leaves its own
        return graph.replay, result

    return record
