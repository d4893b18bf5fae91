"""1,000 simulated runs a case in the noise of recorded turns, by the tool's conductor, judged by `compare_run`.

    python outputs/reference/controls/simulate.py RUN [N] [WORDS OF A CASE'S NAME]

RUN is a recorded run of one request that holds a reference, tuning, confirmation and control rounds of both sides in
some view. Plan, groups, order of turns, stop, turns made again, looks, gates, controls, Holm and margin are the tool's.
The machine is replayed: each turn takes what its cell truly takes, times its process's own factor, times the next value
of a stretch of `turns.json`: what 1,820 turns, one after the other, took over their cell's median on a shared machine
of two cores. Rounds are added as the tool asks for them. Writes simulated.json beside this file.
"""

from __future__ import annotations

import json
import math
import multiprocessing
import sys
from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from scorematrix.compare import compare_run
from scorematrix.compare.sequential import look_schedule
from scorematrix.matrix import Params
from scorematrix.matrix.conductor import Conductor
from scorematrix.matrix.plan import plan_groups
from scorematrix.matrix.turns import score_of
from scorematrix.results import Cell, Manifest, PlannedRound, Round, RunStore
from scorematrix.results.cells import Turn

HERE = Path(__file__).parent
LOCK_STEP, SEQUENTIAL = "lock-step", "one after the other"
CASES = {
    # name: (true ratio of times, design, most rounds)
    "A/A, 5 rounds": (1.0, LOCK_STEP, None),
    "A/A, 5 rounds, one after the other": (1.0, SEQUENTIAL, None),
    "A/A, until decided": (1.0, LOCK_STEP, 40),
    "true 3 % (at the margin), until decided": (1.03, LOCK_STEP, 40),
    "true 5 %, until decided": (1.05, LOCK_STEP, 40),
    "true 10 %, 5 rounds": (1.10, LOCK_STEP, None),
    "true 10 %, 5 rounds, one after the other": (1.10, SEQUENTIAL, None),
    "true 10 %, until decided": (1.10, LOCK_STEP, 40),
}
PROCESS_SCATTER = 0.005
"""Between recorded pairs no more is left beyond what their turns explain."""
VIEW = "best_native"
SECONDS = 4.0
"""A turn: slower than the recorded run's ceiling allows, as the physics gate demands."""
RECORDED_SECONDS = 0.28
"""A turn in `turns.json`."""
TURNS = 110
"""Of a pair and its control, as in the quick run: 22 s of turns that take 0.2 s."""
START_TURNS = 60
"""What starting a process takes, in turns."""


class Machine:
    """Time as it passed on the recorded machine, from some moment on; also what others took of it."""

    def __init__(self, rng: np.random.Generator) -> None:
        self._trace = [
            list(zip(group["log_1e4"], group["others_ms"], strict=True))
            for group in json.loads((HERE / "turns.json").read_text())
        ]
        self._rng, self._now, self._others = rng, 0.0, 0.0
        self._stretch = iter(())

    def start(self) -> None:
        """Minutes have passed: another stretch."""
        trace = self._trace[self._rng.integers(len(self._trace))]
        begin = int(self._rng.integers(len(trace)))
        self._stretch = iter((trace[begin:] + trace[:begin]) * 20)

    def skip(self, n_turns: int) -> None:
        """Nobody measures for so long."""
        for _ in range(n_turns):
            next(self._stretch)

    def work(self, seconds: float) -> float:
        """Work that takes so long undisturbed: what it takes now."""
        log, others_ms = next(self._stretch)
        taken = seconds * math.exp(log / 1e4)
        self._now += taken
        self._others = others_ms / 1e3 * SECONDS / RECORDED_SECONDS
        return taken

    def pause(self, seconds: float) -> None:
        """Nobody works."""
        _, others_ms = next(self._stretch)
        self._now, self._others = self._now + seconds, others_ms / 1e3 * seconds / RECORDED_SECONDS

    def clock(self) -> int:
        """The conductor's."""
        return int(self._now * 1e9)

    def seconds(self) -> tuple[float, float]:
        """What others took during the last turn."""
        found, self._others = self._others, 0.0
        return found, 0.0


class Player:
    """A member whose calls take what the machine makes of them."""

    def __init__(self, planned: PlannedRound, seconds: float, machine: Machine) -> None:
        self.planned, self._seconds, self._machine = planned, seconds, machine
        self._order: list[tuple[float, int, int, float]] = []
        self.facts: list[dict[str, Any]] = []

    def ask(self, *, do: str, **order: Any) -> dict[str, Any]:
        """Only turns take time."""
        if do == "settle":
            self.facts = order["facts"]
        if do != "turn":
            return {"pids": []}
        taken = self._machine.work(self._seconds * order["slowdown"])
        self._order.append((order["slowdown"], order["lap"], order["request"], taken))
        return {"seconds": taken}

    def cell(self, recorded: Cell) -> Cell:
        """The recorded cell with what was measured here."""
        own = [
            (lap, taken, fact)
            for (slowdown, lap, _, taken), fact in zip(self._order, self.facts, strict=True)
            if slowdown == recorded.slowdown
        ]
        laps = {lap: i for i, lap in enumerate(dict.fromkeys(lap for lap, _, _ in own))}
        last = {lap: i for i, (lap, _, _) in enumerate(own)}
        known = ("place", "start_ns", "conductor_ns", "others_ns", "stolen_ns", "disturbed")
        turns = [
            Turn(
                pass_index=laps[lap],
                request=0,
                lap=lap,
                replaced_ns=None if last[lap] == i else [int(taken * 1e9)],
                raw_ns=int(taken * 1e9),
                handled_ns=int(taken * 1e9),
                **{name: fact[name] for name in known},
            )
            for i, (lap, taken, fact) in enumerate(own)
        ]
        call_ns = [[[int(own[last[lap]][1] * 1e9)]] for lap in laps]
        return recorded.model_copy(update={"call_ns": call_ns, "turns": turns, "repeats": 1})


class Template:
    """A recorded run, of which only the times are made anew."""

    def __init__(self, store: RunStore) -> None:
        self.manifest, self.workload = store.manifest(), store.workload()
        self.readiness, rounds = store.readiness(), store.rounds()
        self.by_kind = {(r.backend, r.role): r for r in rounds if r.view == VIEW or r.role == "reference"}
        self.chunk = max(self.manifest.params["chunk_sizes"])

    def params(self, seed: int, most: int | None) -> Params:
        changes = {
            "backends": [{"backend": name, "views": [VIEW]} for name in ("jax", "pytorch")],
            "comparisons": [{"jax": "cpu", "pytorch": "cpu"}],
            "chunk_sizes": [self.chunk],
            "rounds": 5,
            "max_rounds": most,
            "seed": seed,
            "waiting": "passive",
        }
        return Params.model_validate(self.manifest.params | changes)

    def group(self, params: Params, group: Sequence[PlannedRound], ratio: float, machine: Machine, rng) -> list[Round]:
        """The rounds of a group, conducted."""
        players = {}
        for planned in group:
            truth = SECONDS * (ratio if planned.backend == "jax" else 1.0)
            players[planned.name] = Player(planned, truth * math.exp(rng.normal(0, PROCESS_SCATTER)), machine)
        chosen = {planned.name: self.chunk for planned in group}
        score = score_of(params, self.workload, group, chosen=chosen, seconds=TURNS * SECONDS * len(group) / 3)
        Conductor(
            dict(players), score, {}, rng, clock=machine.clock, pause=machine.pause, watch=lambda _: machine
        ).conduct()
        name = f"{group[0].index}-{group[0].view}" if len(group) > 1 else None
        return [self._round(planned, players[planned.name], name) for planned in group]

    def _round(self, planned: PlannedRound, player: Player, group: str | None) -> Round:
        recorded = self.by_kind[planned.backend, planned.role]
        cells = [player.cell(c) for c in recorded.cells if planned.role == "reference" or c.chunk_size == self.chunk]
        place = planned.model_dump()
        seconds = 10 * sum(t.conductor_ns or 0 for cell in cells for t in cell.turns) / 1e9  # it waited for the others
        measured = {"cells": cells, "noise": None, "group": group, "seconds": seconds}
        return recorded.model_copy(update=place | measured | {"samples": []})  # no drawn tokens


def simulate(template: Template, seed: int, ratio: float, design: str, most: int | None) -> dict:
    """One run, from its first round to its verdict."""
    rng = np.random.default_rng([seed, int(ratio * 100), most or 0])
    params, machine = template.params(seed, most), Machine(rng)
    groups = plan_groups(params)
    plan = [planned for group in groups for planned in group]
    manifest = Manifest.model_construct(
        **(dict(template.manifest) | {"params": params.model_dump(mode="json"), "plan": plan})
    )
    counts = iter(look_schedule(manifest.params).counts)
    by_index: dict[int, list[list[PlannedRound]]] = defaultdict(list)
    for group in groups:
        by_index[group[0].index].append(group)
    rounds: list[Round] = []
    due = next(counts)
    for index in sorted(by_index):
        for group in by_index[index]:
            machine.start()
            if design == LOCK_STEP:
                rounds += template.group(params, group, ratio, machine, rng)
                continue
            for i in rng.permutation(len(group)):
                machine.skip(START_TURNS)
                rounds += template.group(params, [group[i]], ratio, machine, rng)
        if index == params.tuning_rounds + due - 1:
            comparison = compare_run(manifest, template.workload, template.readiness, rounds)
            if comparison.settled or (due := next(counts, 0)) == 0:
                break
    (contrast,) = comparison.contrasts
    effect = contrast.effect
    half = math.log(effect.high / effect.low) / 2 if effect else None
    return {"verdict": contrast.verdict, "rounds": contrast.n_rounds, "reason": contrast.reason, "half": half}


def one_case(arguments: tuple[str, str, int]) -> tuple[str, dict]:
    folder, name, n = arguments
    template = Template(RunStore(folder))
    found = [simulate(template, seed, *CASES[name]) for seed in range(n)]
    verdicts = Counter(f["verdict"] for f in found)
    reasons = Counter(f["reason"][:60] for f in found if f["verdict"] in ("invalid", "not_enough_evidence"))
    return name, {
        "runs": n,
        "wins": (verdicts["jax"] + verdicts["pytorch"]) / n,
        "of the faster": verdicts["pytorch"] / n,
        "verdicts": dict(verdicts),
        "rounds": dict(sorted(Counter(f["rounds"] for f in found).items())),
        "half-width, median": round(float(np.median([f["half"] for f in found if f["half"]])), 4),
        "without verdict because": dict(reasons.most_common(4)),
    }


def main(folder: str, n: int, words: str) -> None:
    """Every case whose name holds the words; what is known of others stays."""
    known = json.loads((HERE / "simulated.json").read_text()) if words else {}
    asked = [name for name in CASES if words in name]
    with multiprocessing.Pool(2) as pool:
        for name, case in pool.imap_unordered(one_case, [(folder, name, n) for name in asked]):
            known[name] = case
            found = {name: known[name] for name in CASES if name in known}
            (HERE / "simulated.json").write_text(json.dumps(found, indent=1) + "\n")
            print(f"{name}: {case}", flush=True)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 1000, " ".join(sys.argv[3:]))
