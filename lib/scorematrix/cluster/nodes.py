"""Match the nodes of a cluster to targets by the resources that they declare. Pure: no calls to Ray."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from scorematrix.readiness import TARGETS, Target

CHIPS = {"tpu": "TPU", "gpu": "GPU"}
TYPE = "accelerator_type:"
UNSPOKEN = ("node:", "memory", "object_store_memory")
"""Resources that every node has; they do not show which target it serves."""


@dataclass(frozen=True)
class Node:
    """A living node: its id in the cluster and the total resources that it declares."""

    id: str
    resources: Mapping[str, float] = field(compare=False)

    @property
    def name(self) -> str:
        """Short name for reports, which does not reveal the host."""
        return self.id[:8]


def read_nodes(table: Iterable[Mapping[str, Any]]) -> list[Node]:
    """Return the living nodes of what `ray.nodes()` returns, sorted by id."""
    return sorted((Node(row["NodeID"], dict(row["Resources"])) for row in table if row["Alive"]), key=lambda n: n.id)


def demand(node: Node, where: Target) -> dict[str, float] | None:
    """Return the resources that a round of the target takes of this node; None if the node does not serve it.

    They are all CPUs that the node declares, and the target's chips, if any. With all CPUs taken, Ray places nothing
    else, of this run or another job, on the host of a timed round. A node declares a target by a custom resource of its
    name (`TPU-v6e-1`, upper case or lower), or by Ray's TPU or GPU resource with the accelerator's type. A GPU of a
    type that Ray does not know is taken too: the probe on the node identifies it.
    """
    cpus = node.resources.get("CPU", 0.0)
    if cpus < 1:
        return None
    required = {"CPU": cpus}
    if where.kind == "cpu":
        return required
    custom = next((name for name in node.resources if name.lower() == where.name), None)
    if custom is not None and node.resources[custom] >= 1:
        required[custom] = 1.0
    chip = CHIPS[where.kind]
    types = [name.removeprefix(TYPE) for name in node.resources if name.startswith(TYPE)]
    is_its = custom in required or where.ray_name in types or not types
    if node.resources.get(chip, 0.0) >= where.n_chips and is_its:
        required[chip] = float(where.n_chips)
    return required if len(required) > 1 else None


def nodes_for(nodes: Iterable[Node], where: Target) -> list[Node]:
    """Return the nodes that may serve a target; for the CPU only those without an accelerator, if there are any."""
    able = [node for node in nodes if demand(node, where) is not None]
    plain = [node for node in able if not _is_special(node)]
    return plain if where.kind == "cpu" and plain else able


def describe(nodes: Iterable[Node]) -> str:
    """Return the cluster's resources as text: the evidence that it lacks a target."""
    shapes: dict[str, int] = {}
    for node in nodes:
        shape = ", ".join(
            f"{name} {amount:g}" for name, amount in sorted(node.resources.items()) if not name.startswith(UNSPOKEN)
        )
        shapes[shape or "no CPU"] = shapes.get(shape or "no CPU", 0) + 1
    many = sum(shapes.values())
    text = "; ".join(f"{count} x ({shape})" for shape, count in shapes.items())
    return f"the Ray cluster has {many} node{'' if many == 1 else 's'}: {text}" if many else "the Ray cluster is empty"


def _is_special(node: Node) -> bool:
    names = {name.lower() for name, amount in node.resources.items() if amount > 0}
    return bool(names & ({chip.lower() for chip in CHIPS.values()} | (TARGETS.keys() - {"cpu"})))
