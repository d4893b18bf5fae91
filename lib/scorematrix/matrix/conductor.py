"""Let one process of a group measure at a time, turn by turn, while the others wait without using a core.

Processes that measure one after the other are a minute apart, and the machine's noise varies on that scale. In turns of
one call each they meet the same noise, which cancels in their ratio.

Source: L. Bulej et al., Duet benchmarking, ICPE 2020; A. Abedi, T. Brecht, Conducting repeatable experiments in highly
variable cloud computing environments, ICPE 2017.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from statistics import median
from typing import Any, Protocol

import numpy as np

from scorematrix.matrix.turns import Block, CellKey, Score, Slot, slots, widest_error
from scorematrix.measure.noise import Bystanders, await_rest
from scorematrix.readiness.targets import target
from scorematrix.results import PlannedRound
from scorematrix.results.cells import is_disturbed
from scorematrix.workload.fresh import secret_seed

MOST_TRIES = 4
"""Most tries of a disturbed turn, the first included."""
QUIET_POLL_SECONDS = 0.25
"""How long others must be idle before the next turns, if they disturbed the last one."""
PINGS = 5
"""No-op orders before the turns, and again after them, to measure the round trip to a process."""


class MemberLost(Exception):
    """A process of the group died, hung or left; the text says what is known."""


class Member(Protocol):
    """A process that measures on order."""

    planned: PlannedRound

    def ask(self, **order: Any) -> dict[str, Any]:
        """Have an order executed and wait for the answer.

        Raises:
            MemberLost: if no answer will come.
        """
        ...


class Watch(Protocol):
    """See `measure.noise.Bystanders`."""

    def seconds(self) -> tuple[float, float]:
        """Return processor seconds of others, and seconds stolen by the hypervisor, since the last call."""
        ...


@dataclass
class Conductor:
    """Hands out turns and records what it sees of each.

    Attributes:
        words: what every round receives about its group.
        restart: called with a round whose process was lost before the first turn, and the chunk size that it was lost
            at (0: none); returns a fresh process, or None if none will come.
        watch: creates the watch over processor time of processes other than these and this one.
        rest: waits until the processes of the member that had the last turn are idle.
        pause: sleeps for some seconds.
        before_turns: called with each member's process ids when all are warm; may raise to end the group.
        lost: by round name, the chunk size that was being measured when its process was lost; 0: none.
    """

    members: dict[str, Member]
    score: Score
    words: Mapping[str, Any]
    rng: np.random.Generator
    clock: Callable[[], int] = time.perf_counter_ns
    watch: Callable[[Sequence[int]], Watch] = Bystanders
    rest: Callable[[Sequence[int]], None] = await_rest
    pause: Callable[[float], None] = time.sleep
    on_turn: Callable[[CellKey], None] = lambda _: None
    restart: Callable[[str, int], Member | None] = lambda _name, _chunk: None
    before_turns: Callable[[Mapping[str, Sequence[int]]], None] = lambda _: None
    lost: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._failed: set[CellKey] = set()
        self._facts: dict[str, list[dict[str, Any]]] = defaultdict(list)
        self._seconds: dict[CellKey, dict[tuple[int, int], float]] = defaultdict(dict)
        self._disturbed: set[tuple[CellKey, int, int]] = set()
        self._is_noisy = False
        self._reserve = self.score.again_share * (self.score.seconds or 0.0)
        self._seeds = dict(self.score.seeds)
        self._place = self._lap = 0
        self._origin: int | None = None
        self._last: str | None = None
        self._pids: dict[str, list[int]] = {}
        self._watches: dict[str, Watch] = {}
        self._pings: dict[str, list[int]] = defaultdict(list)

    def conduct(self) -> None:
        """Conduct the group from the first compile to the last record."""
        prepared = self._prepare_all()
        # While one member measures, the work of its partners counts as others': they should wait.
        self._pids = {name: self._ready(name, answer) for name, answer in prepared.items()}
        self._watches = {name: self.watch(pids) for name, pids in self._pids.items()}
        self.before_turns(self._pids)
        self._ping()
        began = self._now()
        for block in self.score.blocks:
            self._play(block, began)
        self._ping()
        for order in ("settle", "after", "end"):
            for name in list(self.members):
                pings = self._pings[name]
                known = {"facts": self._facts[name], "pipe_ns": sorted(pings)[len(pings) // 2] if pings else None}
                self._ask(name, do=order, **(known if order == "settle" else {}))

    def _ping(self) -> None:
        for name in list(self.members):
            for _ in range(PINGS):
                start = self.clock()
                if self._ask(name, do="ping") is None:
                    break
                self._pings[name].append(self.clock() - start)

    def _prepare_all(self) -> dict[str, dict[str, Any] | None]:
        """Have every member compile its programs; return the answers by name.

        In tuning rounds they prepare one after the other, because the time is reported. On a CPU they always do: two
        PyTorch processes with spinning threads took 9 s side by side and 0.4 s alone.
        """
        alone = any(m.planned.role == "tuning" or target(m.planned.target).kind == "cpu" for m in self.members.values())
        at_once = 1 if alone else len(self.members)
        with ThreadPoolExecutor(max(1, at_once)) as pool:
            answers = {name: pool.submit(self._prepare, name) for name in list(self.members)}
            return {name: answer.result() for name, answer in answers.items()}

    def _prepare(self, name: str) -> dict[str, Any] | None:
        return self._ask(name, do="prepare", cells=[cell[1:] for cell in self._left(name)], **self.words)

    def _left(self, name: str) -> list[CellKey]:
        cells = dict.fromkeys(cell for block in self.score.blocks for cell in block.cells if cell[0] == name)
        return [cell for cell in cells if cell not in self._failed]

    def _ready(self, name: str, prepared: dict[str, Any] | None) -> list[int]:
        """Warm up a prepared member; return the ids of its processes, none if it is lost."""
        if prepared is None:
            return self._ready_again(name, 0)
        pids = prepared["pids"]
        for cell in self._left(name):
            _, chunk, slowdown = cell
            answer = self._ask(name, do="warm_up", chunk=chunk, slowdown=slowdown)
            if answer is None or answer.get("error"):
                self._failed.add(cell)
            if name not in self.members:
                return self._ready_again(name, chunk)
            pids = (answer or {}).get("pids", pids)  # a server that died may have been started again
        return pids

    def _ready_again(self, name: str, chunk: int) -> list[int]:
        self._failed |= {cell for block in self.score.blocks for cell in block.cells if cell[:2] == (name, chunk)}
        self.lost.pop(name, None)
        if (member := self.restart(name, chunk)) is None:
            return []
        self.members[name] = member
        return self._ready(name, self._prepare(name))

    def _play(self, block: Block, began: float) -> None:
        """Play a block: the fewest laps, more while they are needed, then disturbed turns again."""
        score, played = self.score, list[Slot]()
        deadline = None if score.seconds is None else began + score.seconds
        first_lap, lap_began, took = self._lap, self._now(), list[float]()
        for slot in slots(block, score.n_requests, first_lap, self.rng, score.draws_tokens):
            if slot.lap != self._lap or not self._living(block):
                self._lap = slot.lap
                now = self._now()
                took.append(now - lap_began)
                lap_began = now
                # A block that goes on leaves the reserve for repeats; any other takes only the fewest laps.
                more = block.goes_on and deadline is not None and now + median(took) < deadline - self._reserve
                is_due = len(took) < score.laps_due(block)
                if not self._living(block) or not (is_due or (more and self._is_wide(block))):
                    break
            played.append(slot)
            self._slot(slot)
        self._lap += 1
        if block.goes_on and deadline is not None:
            self._again(block, played, deadline)

    def _again(self, block: Block, played: Sequence[Slot], deadline: float) -> None:
        """Repeat all turns of each slot with a disturbed one, because a single turn would have no neighbour."""
        for _ in range(MOST_TRIES - 1):
            for slot in played:
                if not self._is_disturbed(slot):
                    continue
                if self._now() > deadline or not self._living(block):
                    return
                self._slot(slot)

    def _slot(self, slot: Slot) -> None:
        """Play the turns of a slot without a pause in between, so that all of them meet the same noise."""
        waits_from, seed = self.clock(), None
        self._await_quiet()
        if slot.is_fresh:  # a seed that the reference has scored serves once: its tokens are not new a second time
            seed = self._seeds.pop(slot.request) if slot.request in self._seeds else secret_seed()
        for cell in slot.cells:
            if cell in self._failed or cell[0] not in self.members:
                continue
            self._turn(cell, slot.lap, slot.request, seed, waits_from)
            waits_from = self.clock()

    def _await_quiet(self) -> None:
        """If others disturbed the last turn, wait until they are idle, at most for the time reserved for repeats."""
        while self._is_noisy and self._reserve > 0 and self._last in self.members:
            watch, start = self._watches[self._last], self.clock()
            watch.seconds()
            self.pause(min(QUIET_POLL_SECONDS, self._reserve))
            others, stolen = (int(seconds * 1e9) for seconds in watch.seconds())
            taken = self.clock() - start
            self._reserve -= taken / 1e9
            self._is_noisy = is_disturbed(others, stolen, taken, self.score.disturbed_share)

    def _turn(self, cell: CellKey, lap: int, request: int, seed: int | None, waits_from: int) -> None:
        name, chunk, slowdown = cell
        watch = self._watches[name]
        self.on_turn(cell)
        if self._last not in (None, name):
            self.rest(self._pids[self._last])
        self._last, rest_ns = name, self.clock() - waits_from
        watch.seconds()
        start = self.clock()
        if self._origin is None:
            self._origin = start
        answer = self._ask(name, do="turn", chunk=chunk, slowdown=slowdown, lap=lap, request=request, seed=seed)
        taken = self.clock() - start
        if answer is None or answer.get("error"):
            self._failed.add(cell)
            if pids := (answer or {}).get("pids"):  # a server that died may have been started again
                self._pids[name], self._watches[name] = pids, self.watch(pids)
            return
        others_ns, stolen_ns = (int(seconds * 1e9) for seconds in watch.seconds())
        disturbed = self._is_noisy = is_disturbed(others_ns, stolen_ns, taken, self.score.disturbed_share)
        (self._disturbed.add if disturbed else self._disturbed.discard)((cell, lap, request))
        self._seconds[cell][lap, request] = answer["seconds"]
        self._facts[name].append(
            dict(
                chunk=chunk,
                slowdown=slowdown,
                place=self._place,
                rest_ns=rest_ns,
                start_ns=start - self._origin,
                conductor_ns=taken,
                others_ns=others_ns,
                stolen_ns=stolen_ns,
                disturbed=disturbed,
            )
        )
        self._place += 1

    def _now(self) -> float:
        return self.clock() / 1e9

    def _ask(self, name: str, **order: Any) -> dict[str, Any] | None:
        """Return the answer, or None if the process is lost: its round goes on alone, the others go on here."""
        try:
            answer = self.members[name].ask(**order)
        except MemberLost:
            self.members.pop(name)
            self.lost[name] = order.get("chunk", 0)
            return None
        if answer.get("leaves"):  # memory ran out: the process ends after this answer
            self.members.pop(name)
        return answer

    def _living(self, block: Block) -> list[CellKey]:
        return [cell for cell in block.cells if cell not in self._failed and cell[0] in self.members]

    def _is_disturbed(self, slot: Slot) -> bool:
        return any((cell, slot.lap, slot.request) in self._disturbed for cell in slot.cells)

    def _is_wide(self, block: Block) -> bool:
        """Return whether the block's ratios are still imprecise, judged by their scatter and never by their size."""
        return widest_error(lap_seconds({cell: self._seconds[cell] for cell in self._living(block)})) > (
            self.score.precise
        )


def lap_seconds(seconds: Mapping[CellKey, Mapping[tuple[int, int], float]]) -> dict[CellKey, list[float]]:
    """Return by cell the seconds of each lap that all cells have, summed over its requests."""
    laps = sorted(set.intersection(*({lap for lap, _ in by_turn} for by_turn in seconds.values())))
    return {
        cell: [sum(taken for (turn_lap, _), taken in by_turn.items() if turn_lap == lap) for lap in laps]
        for cell, by_turn in seconds.items()
    }
