"""Survey what a cluster can run of a plan: every node reports on itself, and nodes alike form the pool of a target."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import scorematrix
from scorematrix.cluster.nodes import Node, demand, describe, nodes_for
from scorematrix.cluster.worker import Needed, NodeReport
from scorematrix.privacy import redacted
from scorematrix.readiness import Machine, check_readiness, target
from scorematrix.results import CompiledRecord, Readiness, TargetRecord, TargetState
from scorematrix.results.files import utc_now

Reports = Mapping[Node, NodeReport | str]
"""The report of each node; or, as text, why there is none."""


@dataclass(frozen=True)
class Pool:
    """The nodes that measure a target. All are alike, because compared rounds must run on one kind of machine.

    Attributes:
        demand: the resources that a round takes of one node.
        machines: the machine's hash, as in its rounds, by node id.
        backends: those that are ready there.
    """

    target: str
    make: str
    demand: Mapping[str, float]
    machines: Mapping[str, str]
    backends: frozenset[str]

    def takes(self, node: Node, report: NodeReport) -> bool:
        """Return whether a node that came later is like these."""
        return _kind(self.target, node, report) == (self.make, tuple(sorted(self.demand.items())), self.backends)


def survey_cluster(
    needed: Needed,
    nodes: Sequence[Node],
    reports: Reports,
    only: Collection[str] | None = None,
    records: Mapping[str, TargetRecord] | None = None,
    compiled: Sequence[CompiledRecord] = (),
) -> tuple[Readiness, dict[str, Pool]]:
    """Return the readiness of every (target, backend) on this cluster, and the pool of each target that is ready."""
    states: list[TargetState] = []
    pools: dict[str, Pool] = {}
    answered = {node: report for node, report in reports.items() if not isinstance(report, str)}
    for name in dict.fromkeys(row[0] for row in needed):
        rows = [row for row in needed if row[0] == name]
        able = nodes_for(nodes, target(name))
        if (pool := _pool(name, able, answered)) is not None:
            pools[name] = pool
            first = next(node for node in able if node.id in pool.machines)
            states += [_told(state, first, len(pool.machines)) for state in _own(answered[first], name)]
        elif reporting := [node for node in able if node in answered]:
            states += [_told(state, reporting[0], 1) for state in _own(answered[reporting[0]], name)]
        elif able:
            states += [_unfit(state, f"node {able[0].name}: {reports[able[0]]}") for state in _lacking(rows, "", only)]
        else:
            states += _lacking(rows, describe(nodes), only, records)
    now = utc_now()
    machine = f"Ray cluster, {'; '.join(dict.fromkeys(pool.make for pool in pools.values())) or 'no node is ready'}"
    return Readiness(checked_utc=now, machine=redacted(machine), states=states, compiled=list(compiled)), pools


def misfit(report: NodeReport) -> NodeReport | str:
    """Return the report, or why its node cannot be used: both ends must have the same version."""
    if report.version != scorematrix.__version__:
        return f"it has scorematrix {report.version}, the driver {scorematrix.__version__}"
    return report


def _pool(name: str, able: Sequence[Node], answered: Mapping[Node, NodeReport]) -> Pool | None:
    """Return the kind of node with the most ready backends, then the most numerous kind; None without one."""
    kinds: dict[tuple[str, tuple, frozenset[str]], list[Node]] = {}
    for node in able:
        if node in answered and (kind := _kind(name, node, answered[node])) is not None:
            kinds.setdefault(kind, []).append(node)
    if not kinds:
        return None
    (make, resources, backends), nodes = max(kinds.items(), key=lambda item: (len(item[0][2]), len(item[1])))
    return Pool(name, make, dict(resources), {node.id: answered[node].machine_sha256 for node in nodes}, backends)


def _kind(name: str, node: Node, report: NodeReport) -> tuple[str, tuple, frozenset[str]] | None:
    """Return what nodes of one pool have in common; None for a node that can run nothing of the target."""
    resources = demand(node, target(name))
    if resources is None:
        return None
    ready = frozenset(state.backend for state in _own(report, name) if state.state == "ready")
    return (report.make, tuple(sorted(resources.items())), ready) if ready else None


def _own(report: NodeReport, name: str) -> list[TargetState]:
    return [state for state in report.states if state.target == name]


def _told(state: TargetState, node: Node, n_nodes: int) -> TargetState:
    """Return a node's state with its name in the evidence; for several nodes alike, also with their number."""
    who = f"node {node.name}" if n_nodes == 1 else f"{n_nodes} nodes, {node.name} one of them"
    return state.model_copy(update={"evidence": f"{who}: {state.evidence}"})


def _unfit(state: TargetState, evidence: str) -> TargetState:
    if state.reason != "no_device":
        return state
    step = "put this version of scorematrix, with its packages, into the nodes' image, then repeat the command"
    return state.model_copy(update={"reason": "not_installed", "evidence": redacted(evidence), "next_step": step})


def _lacking(
    rows: Needed,
    evidence: str,
    only: Collection[str] | None,
    records: Mapping[str, TargetRecord] | None = None,
) -> list[TargetState]:
    """Return the states of a target that no node of the cluster declares."""
    nothing = Machine(nvidia=(), nvidia_evidence=evidence, tpu_evidence=evidence, has_tpu=False, frameworks={})
    states = []
    for state in check_readiness(rows, nothing, "", only, records=records).states:
        where = target(state.target)
        lacks = (
            {"state": "skipped", "reason": "no_device", "evidence": redacted(evidence)} if where.kind == "cpu" else {}
        )
        if state.state == "ready" or state.reason in ("no_device", "not_installed"):
            step = f"add a node with the resource {where.name} to the cluster, or run the same params where one is"
            state = state.model_copy(update={**lacks, "next_step": step} if not state.attempts else {})
        states.append(state)
    return states
