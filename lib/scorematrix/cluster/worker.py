"""What runs on a node of the cluster: looking at it, and measuring the rounds of a group in kernels of their own."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import scorematrix
from scorematrix.matrix import Params
from scorematrix.matrix.group import NOTEBOOK, measure_group
from scorematrix.measure.environment import cpu_name, describe_environment
from scorematrix.readiness import check_readiness, probe_machine
from scorematrix.results import PlannedRound, RunStore, TargetRecord, TargetState
from scorematrix.results.parcel import Parcel, pack_round, unpack
from scorematrix.scoring.place import ServerPlace

Needed = list[tuple[str, str, list[str]]]


@dataclass(frozen=True)
class NodeReport:
    """What a node said of itself.

    Attributes:
        make: what must be alike in nodes that measure the same target: processor, cores, accelerators.
        machine_sha256: the same as in the rounds that are measured there.
    """

    version: str
    make: str
    machine_sha256: str
    states: list[TargetState]


def look_at_node(
    needed: Needed,
    only: Sequence[str] | None,
    records: Mapping[str, TargetRecord],
    servers: Mapping[str, ServerPlace] | None = None,
) -> NodeReport:
    """Judge, on the node itself, what of the plan it can run: its drivers, its frameworks, its packages."""
    machine = probe_machine()
    readiness = check_readiness(needed, machine, cpu_name(), only, records=records, servers=servers)
    chips = sorted({name for seen in machine.frameworks.values() for kind, name in seen.devices if kind != "cpu"})
    make = ", ".join([cpu_name(), f"{len(os.sched_getaffinity(0))} cores", *chips])
    return NodeReport(scorematrix.__version__, make, describe_environment().machine_sha256, readiness.states)


class GroupRunner:
    """Holds a node while the rounds of one group are measured there.

    An actor and not a task: it says where it is before it begins.
    """

    def __init__(self, plan: Parcel) -> None:
        self._plan = plan

    def node_id(self) -> str:
        """Where this is."""
        import ray

        return ray.get_runtime_context().get_node_id()

    def measure(
        self,
        group: Sequence[PlannedRound],
        chosen: Mapping[str, int],
        seconds: float | None,
        seeds: Mapping[int, int],
    ) -> list[Parcel]:
        """The rounds, as in a local run, in a run folder that lives as long as they; conducted on this node.

        Args:
            chosen: chunk sizes by round name, see `matrix.turns.plan_blocks`.
            seconds: for their turns.
            seeds: see `matrix.turns.Score`.
        """
        with tempfile.TemporaryDirectory(prefix="scorematrix-") as folder:
            store = RunStore(Path(folder) / "run")
            unpack(store, self._plan)
            measure_group(Params.model_validate(store.manifest().params), store, group, chosen, seconds, seeds=seeds)
            return [pack_round(store, planned.name, f"{NOTEBOOK}.{planned.name}") for planned in group]
