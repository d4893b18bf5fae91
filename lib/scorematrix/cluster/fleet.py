"""Run groups of rounds on a Ray cluster. Ray places them; if a node is lost, its group is tried again elsewhere.

A group is one actor: its rounds are measured in turns, so they and their conductor are on one node (rules 1 and 15).
For the same reason a loss costs the entire group: results of a lost machine have no partner any more.
"""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self

import ray
from ray.exceptions import RayError

from scorematrix.cluster.calls import LOOK_SECONDS, answer, end, placed, reason_of, received, wait
from scorematrix.cluster.connect import living_nodes
from scorematrix.cluster.nodes import Node, demand, nodes_for
from scorematrix.cluster.survey import Pool
from scorematrix.cluster.worker import GroupRunner, Needed, NodeReport, look_at_node
from scorematrix.matrix import Params
from scorematrix.matrix.group import lost_round
from scorematrix.matrix.orchestrate import Chosen, Progress, as_tuned, reference_round
from scorematrix.matrix.turns import seeds_for
from scorematrix.readiness import target
from scorematrix.results import LostTry, PlannedRound, Round, RunStore, TargetRecord, Try
from scorematrix.results.files import utc_now
from scorematrix.results.transfer import Parcel, pack_plan, unpack_round

MOST_TRIES = 3
MOST_PLACEMENTS = 30
"""How often Ray may fail to place a group, for example on a lost node until the cluster has noticed."""
PATIENCE_SECONDS = 600.0
"""How long to wait for a node that does not answer, or for a replacement of a target's last node."""
Group = list[PlannedRound]


@dataclass
class Flight:
    """A group that is being measured, or waits for it.

    Attributes:
        ids: the nodes that it may be placed on.
        node: where it is; None until Ray has placed it.
        left: its rounds that are still to be measured.
    """

    group: Group
    left: Group = field(default_factory=list)
    tries: list[LostTry] = field(default_factory=list)
    avoid: str | None = None
    placements: int = 0
    ids: frozenset[str] = frozenset()
    actor: Any = None
    node: str | None = None

    @property
    def target(self) -> str:
        return self.group[0].target

    @property
    def node_name(self) -> str:
        """The node's short name in reports; only for a flight that Ray has placed."""
        assert self.node is not None
        return self.node[:8]


class Fleet:
    """All flights and probes of this driver on the cluster; leaving the context ends them."""

    def __init__(
        self,
        params: Params,
        store: RunStore,
        needed: Needed,
        only: Collection[str] | None,
        tried: Mapping[str, TargetRecord],
        patience_seconds: float,
        chosen: Chosen,
        on_progress: Callable[[Progress], None],
    ) -> None:
        self._params, self._store, self._tell = params, store, on_progress
        self._needed, self._only, self._tried = needed, sorted(only) if only is not None else None, dict(tried)
        self._patience, self._chosen = patience_seconds, chosen
        self._shares: Mapping[str, float | None] = {}
        self._plan: Any = None
        self._pools: dict[str, Pool] = {}
        self._recorded: dict[str, Round] = {}
        self._total = self._done = 0
        self._flights: dict[Any, Flight] = {}
        self._probes: dict[Any, Node] = {}
        self._known: set[str] = set()
        self._bare_since: dict[str, float] = {}
        self._refused: set[str] = set()
        self.given_up: list[str] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        for flight in self._flights.values():
            end(flight.actor)
        for probe in self._probes:
            with suppress(Exception):
                ray.cancel(probe, force=True)

    # Looking.

    def ask(self, nodes: Sequence[Node]) -> dict[Node, NodeReport | str]:
        """Return the report of each of these nodes, or why there is none."""
        self._ask(nodes)
        reports: dict[Node, NodeReport | str] = {}
        latest = time.monotonic() + self._patience
        while self._probes and time.monotonic() < latest:
            reports |= {self._probes.pop(ref): answer(ref) for ref in wait(list(self._probes))}
        late = f"it did not answer within {self._patience:.0f} s, another job may be using it"
        return {node: reports.get(node, late) for node in nodes}

    def take(
        self, pools: Mapping[str, Pool], kept: Mapping[str, Round], total: int, shares: Mapping[str, float | None]
    ) -> None:
        """Set where to measure what, and what is recorded already.

        Args:
            shares: seconds for the turns of a group, by the name of its first round; None: no time budget.
        """
        self._shares = shares
        self._pools, self._recorded, self._total = dict(pools), dict(kept), total
        self._plan = ray.put(dict(pack_plan(self._store)))

    def _ask(self, nodes: Iterable[Node]) -> None:
        """Send a probe to each new node that may serve the plan; it takes the same resources as a round."""
        for node in nodes:
            rows = [row for row in self._needed if node in nodes_for(nodes, target(row[0]))]
            if node.id in self._known or not rows:
                continue
            self._known.add(node.id)
            resources = {k: v for row in rows for k, v in (demand(node, target(row[0])) or {}).items()}
            probe = placed(look_at_node, resources, [node.id], max_retries=0)
            self._probes[probe.remote(rows, self._only, self._tried, self._params.places)] = node

    # Measuring.

    def fill(self, groups: Sequence[Group]) -> None:
        """Measure the unrecorded rounds of these groups, as many groups at a time as there are nodes for them."""
        waiting = deque(flight for group in groups if (flight := self._opened(group)) is not None)
        while waiting or self._flights:
            living = living_nodes()
            self._ask(living)
            self._start(waiting, frozenset(node.id for node in living))
            ready = wait([*self._flights, *self._probes])
            for ref in ready:
                if ref in self._probes:
                    self._admit(self._probes.pop(ref), answer(ref))
                elif (again := self._advance(self._flights.pop(ref), ref)) is not None:
                    waiting.appendleft(again)

    def _opened(self, group: Group) -> Flight | None:
        """Return a flight for a group; None if all of its rounds are recorded."""
        for planned in group:
            if planned.name in self._recorded:
                self._done += 1
                self._tell(Progress("kept", planned, self._done, self._total, self._recorded[planned.name]))
        return None if all(planned.name in self._recorded for planned in group) else Flight(group)

    def _start(self, waiting: deque[Flight], living: frozenset[str]) -> None:
        """Hand groups to Ray, in the plan's order, as long as a target has more living nodes than groups."""
        for ref, flight in list(self._flights.items()):
            if flight.node is None and not flight.ids & living:  # none of its nodes is living
                end(self._flights.pop(ref).actor)
                waiting.appendleft(flight)
        under_way = Counter(flight.target for flight in self._flights.values())
        for flight in list(waiting):
            pool = self._pools[flight.target]
            nodes = living & pool.machines.keys()
            if flight.target in self._refused or (not nodes and self._is_given_up(flight.target)):
                waiting.remove(flight)
            elif under_way[flight.target] < len(nodes):
                self._bare_since.pop(flight.target, None)
                under_way[flight.target] += 1
                waiting.remove(flight)
                self._launch(flight, pool, nodes)

    def _launch(self, flight: Flight, pool: Pool, nodes: frozenset[str]) -> None:
        recorded = [self._recorded[p.name] for p in flight.group if p.name in self._recorded]
        machines = {round_.environment.machine_sha256 for round_ in recorded if round_.environment}
        same = frozenset(id_ for id_ in nodes if {pool.machines[id_]} == machines)
        if machines and not same:  # its recorded rounds cannot get a partner
            self._drop(flight.group)
        flight.ids = same or (nodes - {flight.avoid}) or nodes
        flight.left = [p for p in flight.group if p.name not in self._recorded]
        flight.node = None
        flight.placements += 1
        runner = placed(GroupRunner, pool.demand, flight.ids, max_restarts=0, max_task_retries=0)
        flight.actor = runner.remote(self._plan)
        self._flights[flight.actor.node_id.remote()] = flight

    def _advance(self, flight: Flight, ref: Any) -> Flight | None:
        """Process an actor's answer; return the flight if it has to be tried again."""
        try:
            came = received(ref)
            if flight.node is None:
                flight.node = came
            else:
                self._keep(flight, came)
        except RayError as error:
            end(flight.actor)
            if flight.node is None:  # nothing was measured, nothing is lost
                return self._not_placed(flight, reason_of(error))
            return self._lost(flight, reason_of(error))
        if not flight.left:
            end(flight.actor)
            return None
        self._store.note("begun", *(planned.name for planned in flight.left))
        for planned in flight.left:
            self._tell(Progress("begin", planned, self._done, self._total, note=f"node {flight.node_name}"))
        seconds = self._shares.get(flight.group[0].name)
        seeds = seeds_for(flight.left, reference_round(self._store))
        measured = flight.actor.measure.remote(*as_tuned(flight.left, self._chosen), seconds, seeds)
        self._flights[measured] = flight
        return None

    def _keep(self, flight: Flight, parcels: Sequence[Parcel]) -> None:
        for planned, parcel in zip(flight.left, parcels, strict=True):
            round_ = unpack_round(self._store, planned.name, parcel)
            if earlier := self._store.earlier_tries(planned.name):  # includes lost tries
                round_ = _after(flight.tries, round_, earlier)
                self._store.write_round(round_)
            self._record(planned, round_, f"node {flight.node_name}")
        flight.left = []

    def _record(self, planned: PlannedRound, round_: Round, note: str) -> None:
        self._recorded[planned.name] = round_
        self._store.note_end(round_)
        self._done += 1
        self._tell(Progress("end", planned, self._done, self._total, round_, note))

    def _not_placed(self, flight: Flight, reason: str) -> Flight | None:
        """Retry after a pause. After MOST_PLACEMENTS failures give up the target, without failing a round."""
        if flight.placements < MOST_PLACEMENTS:
            time.sleep(LOOK_SECONDS / 5)
            return flight
        self._refused.add(flight.target)
        self.given_up.append(f"Ray did not place a round of {flight.target}, {MOST_PLACEMENTS} times: {reason}")
        return None

    def _lost(self, flight: Flight, reason: str) -> Flight | None:
        """Retry the group on another node. After MOST_TRIES losses, record its rounds as failed, with the reason."""
        planned, where = flight.left[0], flight.node_name
        now = utc_now()
        tries = [*flight.tries, LostTry(at_utc=now, node=where, reason=reason)]
        note = f"lost with node {where}, try {len(tries)} of {MOST_TRIES}: {reason}"
        self._store.note("lost", *(planned.name for planned in flight.group))
        self._drop(flight.group)
        self._tell(Progress("lost", planned, self._done, self._total, note=note))
        if len(tries) < MOST_TRIES:
            return Flight(flight.group, tries=tries, avoid=flight.node)
        why = f"lost {MOST_TRIES} times, on nodes {', '.join(one.node for one in tries)}; the last time: {reason}"
        for planned in flight.left:
            failed = lost_round(self._params, self._store, planned, why, 0.0)
            failed = _after(tries, failed, failed.tries)
            self._store.write_round(failed)
            self._record(planned, failed, note)
        return None

    def _drop(self, group: Group) -> None:
        for planned in group:
            if self._recorded.pop(planned.name, None) is not None:
                self._done -= 1
                self._store.drop_round(planned.name)

    def _admit(self, node: Node, report: NodeReport | str) -> None:
        """Add a node that joined during the run to the pools of its kind."""
        for name, pool in self._pools.items():
            if not isinstance(report, str) and pool.takes(node, report):
                machines = {**pool.machines, node.id: report.machine_sha256}
                self._pools[name] = Pool(name, pool.make, pool.demand, machines, pool.backends)

    def _is_given_up(self, name: str) -> bool:
        """Return whether the wait for a node of a target has ended."""
        since = self._bare_since.setdefault(name, time.monotonic())
        if time.monotonic() - since < self._patience:
            return False
        why = f"{name} has had no living node for {self._patience:.0f} s, and rounds of it are left"
        if why not in self.given_up:
            self.given_up.append(why)
        return True


def _after(lost: Sequence[LostTry], round_: Round, tries: Sequence[Try]) -> Round:
    """Return the round with the tries before it, and with a new checksum."""
    before = {"lost": list(lost), "tries": list(tries)}
    return Round.model_validate(round_.model_dump(exclude={"sha256"}) | before)
