"""The conductor: one at a time, every turn on record, disturbed ones again, a lost process costs its own round only."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from scorematrix.matrix.conductor import Conductor, MemberLost
from scorematrix.matrix.member import ConductorGone, Remote, orders_from
from scorematrix.matrix.turns import FEWEST_RATIOS, Block, Score
from scorematrix.measure.noise import Bystanders
from scorematrix.results import PlannedRound
from tests.conftest import real_time


class Player:
    """A member that notes its orders in a list that all share; it may fail, or be lost, at one of them."""

    def __init__(self, name: str, log: list, *, lost_at: str = "", error_at: str = "", role: str = "confirm") -> None:
        self.planned = PlannedRound(index=1, role=role, backend=name, view="v", target="cpu", position=0)
        self.name, self._log, self._lost_at, self._error_at = name, log, lost_at, error_at
        self.facts: list[dict[str, Any]] = []
        self.pids = [os.getpid()]

    def ask(self, **order: Any) -> dict[str, Any]:
        self._log.append((self.name, order))
        if order["do"] == self._lost_at:
            raise MemberLost("gone")
        if order["do"] == self._error_at:
            return {"error": "boom"}
        if order["do"] == "settle":
            self.facts = order["facts"]
        return {"pids": self.pids, "seconds": 0.01}


def conduct(players: list[Player], blocks: list[Block], watch: Any = Bystanders, **score: Any) -> Conductor:
    options, rng = {"n_requests": 2, "fewest_laps": 3} | score, np.random.default_rng(1)
    conductor = Conductor({p.name: p for p in players}, Score(blocks, **options), {}, rng, watch=watch)
    conductor.conduct()
    return conductor


def block(*names: str, goes_on: bool = True) -> Block:
    return Block(tuple((name, 8, 1.0) for name in names), goes_on)


def turns(log: list) -> list[tuple[str, int, int]]:
    return [(name, order["lap"], order["request"]) for name, order in log if order["do"] == "turn"]


def test_all_prepare_and_warm_up_before_anyone_measures_and_all_are_told_to_end() -> None:
    log: list = []
    conduct([Player("a", log), Player("b", log)], [block("a", "b")])
    phases = [order["do"] for _, order in log if order["do"] != "ping"]
    order = ["prepare", "warm_up", "turn", "settle", "after", "end"]
    assert list(dict.fromkeys(phases)) == order and phases == sorted(phases, key=order.index)


def test_a_turn_begins_when_the_process_of_the_one_before_rests() -> None:
    log: list = []
    players = [Player(name, log) for name in "ab"]
    for n, player in enumerate(players):
        player.pids = [n]
    conductor = Conductor(
        {p.name: p for p in players}, Score([block("a", "b")], n_requests=1, fewest_laps=4), {},
        np.random.default_rng(1), rest=lambda pids: log.append(("rest", {"do": "rest", "pids": pids})),
    )  # fmt: skip
    conductor.conduct()
    taken = [(name, order.get("pids")) for name, order in log if order["do"] in ("turn", "rest")]
    expected, before = [], None
    for name in (name for name, _ in taken if name != "rest"):
        expected += [("rest", ["ab".index(before)])] if before not in (None, name) else []
        expected, before = [*expected, (name, None)], name
    assert taken == expected and ("rest", [0]) in taken and ("rest", [1]) in taken
    assert all(fact["rest_ns"] >= 0 for player in players for fact in player.facts)


@pytest.mark.parametrize(
    ("target", "role", "at_once"),
    [("cpu", "confirm", 1), ("gpu-h100", "tuning", 1), ("gpu-h100", "confirm", 2)],
)
def test_on_a_cpu_and_while_tuning_programs_are_prepared_one_after_the_other(
    target: str, role: str, at_once: int
) -> None:
    """Threads that spin would slow down whoever prepares beside them."""
    meeting, most = threading.Barrier(2), []

    class Slow(Player):
        def ask(self, **order: Any) -> dict[str, Any]:
            if order["do"] == "prepare":
                with contextlib.suppress(threading.BrokenBarrierError):
                    most.append(meeting.wait(0.3))
            return super().ask(**order)

    players = [Slow(name, [], role=role) for name in "ab"]
    for player in players:
        player.planned = player.planned.model_copy(update={"target": target})
    conduct(players, [block("a", "b")])
    assert len(most) == (2 if at_once == 2 else 0), "two met only where both prepared at once"


def test_turns_of_a_lap_and_request_stand_beside_each_other_and_places_count_them() -> None:
    log: list = []
    a, b = Player("a", log), Player("b", log)
    conduct([a, b], [block("a", "b")])
    found = turns(log)
    assert len(found) == 3 * 2 * 2
    for first, second in zip(found[::2], found[1::2], strict=True):
        assert first[1:] == second[1:] and {first[0], second[0]} == {"a", "b"}
    assert sorted(fact["place"] for p in (a, b) for fact in p.facts) == list(range(12))
    assert all(fact["conductor_ns"] >= 0 and fact["start_ns"] >= 0 for fact in a.facts)


def test_tokens_that_the_reference_has_scored_are_asked_once_and_others_are_drawn_for_both_alike() -> None:
    log: list = []
    seeds = {1: 4711}
    conduct([Player("a", log), Player("b", log)], [block("a", "b")], fewest_laps=6, draws_tokens=True, seeds=seeds)
    drawn = [(name, o["lap"], o["request"], o["seed"]) for name, o in log if o["do"] == "turn" and o["seed"]]
    asked = {name: {turn[1:] for turn in drawn if turn[0] == name} for name in "ab"}
    assert asked["a"] == asked["b"] and len(asked["a"]) == 4, "two laps of two requests"
    assert [turn[:2] for turn in sorted(asked["a"]) if turn[2] == 4711] == [(1, 1)]
    assert len({seed for *_, seed in asked["a"]}) == 4 and seeds == {1: 4711}


def test_blocks_have_laps_of_their_own() -> None:
    log: list = []
    conduct([Player("a", log), Player("b", log)], [block("a", goes_on=False), block("a", "b")], n_requests=1)
    laps = {name: {lap for own, lap, _ in turns(log) if own == name} for name in "ab"}
    assert len(laps["b"]) == 3 and len(laps["a"]) == 6 and laps["b"] < laps["a"]


def test_laps_go_on_until_the_ratios_are_precise() -> None:
    """The members' times have no scatter: as few laps as can tell so are enough, however much time there is."""
    log: list = []
    conduct([Player("a", log), Player("b", log)], [block("a", "b")], seconds=60.0, precise=0.01, n_requests=1)
    assert len(turns(log)) == 2 * FEWEST_RATIOS


def test_laps_go_on_while_they_are_not_until_time_is_up() -> None:
    rng = np.random.default_rng(5)

    class Scattering(Player):
        def ask(self, **order: Any) -> dict[str, Any]:
            time.sleep(0.002 if order["do"] == "turn" else 0)
            return super().ask(**order) | {"seconds": float(rng.lognormal(0, 1))}

    log: list = []
    began = time.monotonic()
    conduct([Scattering("a", log), Scattering("b", log)], [block("a", "b")], seconds=0.5, precise=1e-6, n_requests=1)
    assert len(turns(log)) > 2 * FEWEST_RATIOS * 2 and time.monotonic() - began < 5


def test_a_process_that_is_lost_in_its_turn_leaves_the_others_playing() -> None:
    log: list = []
    a, b = Player("a", log, lost_at="turn"), Player("b", log)
    conductor = conduct([a, b], [block("a", "b")], n_requests=1)
    assert conductor.lost == {"a": 8} and len(b.facts) == 3 and list(conductor.members) == ["b"]


def test_a_cell_that_fails_takes_no_more_turns_and_its_process_ends_in_order() -> None:
    log: list = []
    a, b = Player("a", log, error_at="turn"), Player("b", log)
    conductor = conduct([a, b], [block("a", "b")], n_requests=1)
    assert len([t for t in turns(log) if t[0] == "a"]) == 1 and len(b.facts) == 3
    assert conductor.lost == {} and ("a", "end") in [(name, order["do"]) for name, order in log]


def test_a_process_that_is_lost_before_the_first_turn_is_started_again_and_joins_in() -> None:
    log: list = []
    a, b = Player("a", log, lost_at="warm_up"), Player("b", log)
    again = Player("a", log)
    asked: list[tuple[str, int]] = []

    def restart(name: str, chunk: int) -> Player:
        asked.append((name, chunk))
        return again

    both = Block((("a", 8, 1.0), ("a", 4, 1.0), ("b", 4, 1.0)), True)
    score = Score([both], n_requests=1, fewest_laps=3)
    conductor = Conductor({"a": a, "b": b}, score, {}, np.random.default_rng(1), restart=restart)
    conductor.conduct()
    assert asked == [("a", 8)] and {fact["chunk"] for fact in again.facts} == {4} and len(b.facts) == 3
    assert conductor.lost == {}


@pytest.mark.parametrize("at", ["turn", "warm_up"])
def test_processes_that_a_failed_call_reports_count_as_the_members_own_from_then_on(at: str) -> None:
    """A server that died was started again. Its new processes must not count as others'."""
    log, watched = [], list[tuple[int, ...]]()

    class Restarting(Player):
        def ask(self, **order: Any) -> dict[str, Any]:
            died = order["do"] == at and order["chunk"] == 4
            self.pids = [1, 7] if died else self.pids
            return super().ask(**order) | ({"error": "died"} if died else {})

    class Watching(Bystanders):
        def __init__(self, pids: Any) -> None:
            watched.append(tuple(pids))
            super().__init__(pids)

    blocks = [Block((("a", 4, 1.0),)), Block((("a", 8, 1.0),), True)]
    conduct([Restarting("a", log)], blocks, watch=Watching)
    assert watched == ([(os.getpid(),), (1, 7)] if at == "turn" else [(1, 7)])


def test_a_group_that_is_not_ready_to_take_turns_takes_none() -> None:
    log: list = []
    a, b = Player("a", log), Player("b", log)
    score, seen = Score([block("a", "b")], n_requests=1, fewest_laps=3), {}

    def ready(pids: Any) -> None:
        seen.update(pids)
        raise RuntimeError("not now")

    with pytest.raises(RuntimeError, match="not now"):
        Conductor({"a": a, "b": b}, score, {}, np.random.default_rng(1), before_turns=ready).conduct()
    assert turns(log) == [] and seen == {"a": a.pids, "b": b.pids}


def test_disturbed_turns_are_made_again_with_their_neighbours() -> None:
    """Others take half a second of a core during the second lap; it is played once more when all laps are done."""
    log: list = []

    class Neighbour:
        def __init__(self, pids: list[int]) -> None:
            pass

        def seconds(self) -> tuple[float, float]:
            played = turns(log)
            busy = bool(played) and played[-1][1] == 1 and len(played) < 2 * FEWEST_RATIOS + 1
            return (0.5 if busy else 0.0), 0.0

    a, b = Player("a", log), Player("b", log)
    conduct([a, b], [block("a", "b")], Neighbour, n_requests=1, seconds=60.0, precise=1.0)
    assert [lap for _, lap, _ in turns(log)] == [*np.repeat(np.arange(FEWEST_RATIOS), 2), 1, 1]
    assert [fact["disturbed"] for fact in a.facts] == [
        *(lap == 1 for lap in range(FEWEST_RATIOS)),
        False,
    ]


@pytest.mark.parametrize("seconds_busy", [3.0, 60.0])
def test_after_a_disturbed_turn_the_next_slot_waits_for_others_within_the_reserve(seconds_busy: float) -> None:
    """Others take a core from the second turn on, for shorter or longer than the reserve of ten seconds."""
    log: list = []
    now = {"seconds": 0.0, "busy_until": 0.0}

    class Slow(Player):
        def ask(self, **order: Any) -> dict[str, Any]:
            now["seconds"] += 0.1 if order["do"] == "turn" else 0.0
            if order["do"] == "turn" and len(turns(self._log)) == 1:
                now["busy_until"] = now["seconds"] + seconds_busy
            return super().ask(**order)

    class Neighbour:
        def __init__(self, pids: list[int]) -> None:
            self._seen = 0.0

        def seconds(self) -> tuple[float, float]:
            used = min(now["seconds"], now["busy_until"])
            taken, self._seen = used - self._seen, max(used, self._seen)
            return max(0.0, taken), 0.0

    def pause(seconds: float) -> None:
        now["seconds"] += seconds
        log.append(("pause", {"do": "pause", "at": len(turns(log))}))

    players = [Slow("a", log), Slow("b", log)]
    score = Score([block("a", "b")], n_requests=1, fewest_laps=3, seconds=40.0, again_share=0.25, precise=1.0)
    conductor = Conductor(
        {p.name: p for p in players}, score, {}, np.random.default_rng(1),
        clock=lambda: int(now["seconds"] * 1e9), watch=Neighbour, pause=pause,
    )  # fmt: skip
    conductor.conduct()
    pauses = [order["at"] for _, order in log if order["do"] == "pause"]
    assert pauses and {at % 2 for at in pauses} == {0}, "not between neighbours"
    facts = sorted((fact for p in players for fact in p.facts), key=lambda fact: fact["place"])
    waited = [fact["rest_ns"] / 1e9 for fact in facts]
    assert sum(waited) == pytest.approx(min(seconds_busy, 10.0), abs=0.5)
    assert all(fact["disturbed"] for fact in facts[2:]) is (seconds_busy > 40)


@real_time
def test_a_process_that_waits_uses_no_core_and_one_that_dies_is_lost(tmp_path: Path) -> None:
    """A real member at the other end of a real socket."""
    code = (
        "import sys, time\n"
        "from scorematrix.matrix.member import orders_from\n"
        "orders = orders_from(sys.argv[1], 'a')\n"
        "order = next(orders)\n"
        "while order['do'] != 'turn': order = orders.send({'cpu': time.process_time()})\n"
        "sys.exit(3)\n"
    )
    path = str(tmp_path / "s")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen()
        process = subprocess.Popen([sys.executable, "-c", code, path])
        connection, _ = listener.accept()
        lines = connection.makefile("rw", encoding="utf-8")
        assert json.loads(lines.readline()) == {"name": "a", "pid": process.pid}
        member = Remote(Player("a", []).planned, connection, lines)
        before = member.ask(do="prepare")["cpu"]
        time.sleep(1.0)
        assert member.ask(do="prepare")["cpu"] - before < 0.01
        with pytest.raises(MemberLost):
            member.ask(do="turn")
        assert process.wait(10) == 3
        member.close()


@real_time
def test_a_process_whose_conductor_is_gone_has_no_more_orders(tmp_path: Path) -> None:
    path = str(tmp_path / "s")
    with socket.socket(socket.AF_UNIX) as listener, ThreadPoolExecutor(1) as pool:
        listener.bind(path)
        listener.listen()
        first = pool.submit(next, orders_from(path, "a"))
        connection, _ = listener.accept()
        Remote(Player("a", []).planned, connection, connection.makefile("rw", encoding="utf-8")).close()
        with pytest.raises(ConductorGone):
            first.result(10)
