"""Which nodes of a cluster serve which target, by the resources that they declare. Pure: Ray is not asked here."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from scorematrix.readiness import TARGETS, Target

ACCELERATORS = {
    "tpu-v6e-1": "TPU-V6E",
    "tpu-v6e-4": "TPU-V6E",
    "tpu-v6e-8": "TPU-V6E",
    "tpu-v5e-1": "TPU-V5LITEPOD",
    "tpu-7x-1": "TPU-V7X",
    "gpu-g4": "RTX-PRO-6000",
    "gpu-l4": "L4",
    "gpu-a100": "A100",
    "gpu-h100": "H100",
    "gpu-h200": "H200",
    "gpu-b200": "B200",
}
"""What Ray calls the chip of a target: a node that Ray has recognised has `accelerator_type:<this>`."""
CHIPS = {"tpu": "TPU", "gpu": "GPU"}
TYPE = "accelerator_type:"
UNSPOKEN = ("node:", "memory", "object_store_memory")
"""Resources that every node has: they say nothing of what it is for."""


@dataclass(frozen=True)
class Node:
    """A living node: its id in the cluster and the resources that it declares, in all."""

    id: str
    resources: Mapping[str, float] = field(compare=False)

    @property
    def name(self) -> str:
        """Short, and of no host: for reports."""
        return self.id[:8]


def read_nodes(table: Iterable[Mapping[str, Any]]) -> list[Node]:
    """The living nodes of what `ray.nodes()` returns, in a lasting order."""
    return sorted((Node(row["NodeID"], dict(row["Resources"])) for row in table if row["Alive"]), key=lambda n: n.id)


def demand(node: Node, where: Target) -> dict[str, float] | None:
    """What a round of the target takes of this node; None where the node is not for it.

    It is always all the CPUs that the node declares, so that nothing else that Ray places, of this run or of another
    job, shares the host with a timed round; and the target's chips, where it has any. A node declares a target by a
    custom resource of its name (`TPU-v6e-1`, upper case or lower), or by Ray's own TPU or GPU with the accelerator's
    type. A GPU of a type that Ray does not know is taken too: the probe on the node says what it is.
    """
    cpus = node.resources.get("CPU", 0.0)
    if cpus < 1:
        return None
    asked = {"CPU": cpus}
    if where.kind == "cpu":
        return asked
    own = next((name for name in node.resources if name.lower() == where.name), None)
    if own is not None and node.resources[own] >= 1:
        asked[own] = 1.0
    chip = CHIPS[where.kind]
    types = [name.removeprefix(TYPE) for name in node.resources if name.startswith(TYPE)]
    is_its = own in asked or ACCELERATORS.get(where.name) in types or not types
    if node.resources.get(chip, 0.0) >= where.n_chips and is_its:
        asked[chip] = float(where.n_chips)
    return asked if len(asked) > 1 else None


def nodes_for(nodes: Iterable[Node], where: Target) -> list[Node]:
    """The nodes that may serve a target; for the CPU those without an accelerator, where there are such."""
    able = [node for node in nodes if demand(node, where) is not None]
    plain = [node for node in able if not _is_special(node)]
    return plain if where.kind == "cpu" and plain else able


def describe(nodes: Iterable[Node]) -> str:
    """The cluster's resources in words: the evidence that it lacks something."""
    shapes: dict[str, int] = {}
    for node in nodes:
        words = ", ".join(
            f"{name} {amount:g}" for name, amount in sorted(node.resources.items()) if not name.startswith(UNSPOKEN)
        )
        shapes[words or "no CPU"] = shapes.get(words or "no CPU", 0) + 1
    many = sum(shapes.values())
    told = "; ".join(f"{count} x ({words})" for words, count in shapes.items())
    return f"the Ray cluster has {many} node{'' if many == 1 else 's'}: {told}" if many else "the Ray cluster is empty"


def _is_special(node: Node) -> bool:
    names = {name.lower() for name, amount in node.resources.items() if amount > 0}
    return bool(names & ({chip.lower() for chip in CHIPS.values()} | (TARGETS.keys() - {"cpu"})))
