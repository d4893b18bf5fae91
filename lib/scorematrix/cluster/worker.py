"""Code that runs on a cluster's node: it reports on the node, and measures a group's rounds in separate kernels."""

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
from scorematrix.results.transfer import Parcel, pack_round, unpack
from scorematrix.scoring.place import ServerPlace

Needed = list[tuple[str, str, list[str]]]


@dataclass(frozen=True)
class NodeReport:
    """A node's report on itself.

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
    """Check on the node what of the plan it can run, by its drivers, frameworks and packages."""
    machine = probe_machine()
    readiness = check_readiness(needed, machine, cpu_name(), only, records=records, servers=servers)
    chips = sorted({name for seen in machine.frameworks.values() for kind, name in seen.devices if kind != "cpu"})
    make = ", ".join([cpu_name(), f"{len(os.sched_getaffinity(0))} cores", *chips])
    return NodeReport(scorematrix.__version__, make, describe_environment().machine_sha256, readiness.states)


class GroupRunner:
    """Occupies a node while the rounds of one group are measured there.

    It is an actor and not a task, so that it can report its node before it begins.
    """

    def __init__(self, plan: Parcel) -> None:
        self._plan = plan

    def node_id(self) -> str:
        """Return the id of this actor's node."""
        import ray

        return ray.get_runtime_context().get_node_id()

    def measure(
        self,
        group: Sequence[PlannedRound],
        chosen: Mapping[str, int],
        seconds: float | None,
        seeds: Mapping[int, int],
    ) -> list[Parcel]:
        """Measure the rounds as in a local run, conducted on this node, in a temporary run folder.

        Args:
            chosen: chunk sizes by round name, see `matrix.turns.plan_blocks`.
            seconds: for the group's turns.
            seeds: see `matrix.turns.Score`.
        """
        with tempfile.TemporaryDirectory(prefix="scorematrix-") as folder:
            store = RunStore(Path(folder) / "run")
            unpack(store, self._plan)
            measure_group(Params.model_validate(store.manifest().params), store, group, chosen, seconds, seeds=seeds)
            return [pack_round(store, planned.name, f"{NOTEBOOK}.{planned.name}") for planned in group]
