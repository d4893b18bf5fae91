"""Simulate whole runs in virtual time.

Plan, conductor, turns, probes, gates and verdict are the product's. Clocks and work are simulated. Both sides return
the same scores; PyTorch takes 1.2 times as long as JAX.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from scorematrix.compare import Comparison, compare_run
from scorematrix.compare.evidence import gather
from scorematrix.matrix import Params, draft, round
from scorematrix.matrix.conductor import Conductor
from scorematrix.matrix.draft import Draft
from scorematrix.matrix.plan import plan_groups
from scorematrix.matrix.round import _TurnTaker
from scorematrix.matrix.turns import score_of, seeds_for
from scorematrix.results import PlannedRound, Round, RunStore
from scorematrix.scoring import Scores
from scorematrix.scoring.contract import BackendInfo
from scorematrix.workload import ScoreRequest, Workload, WorkloadRequest
from tests.factory import CEILINGS, ENVIRONMENT, FLOOR_FLOPS, make_params, write_run

TRUE_RATIO = 1.2
CALL_SECONDS = 0.2
"""JAX's time for a call of 8 items. A third of it is for the query."""
ITEM_SHARE = 2 / 3 / 8
CALL_SCATTER, PROCESS_SCATTER = 0.02, 0.004
READING_NS = 20_000
"""Time that it takes to read a clock."""
PIPE_NS = 100_000
"""Time that an order takes to reach a process."""
PARAMS = {"comparisons": [{"jax": "cpu", "pytorch": "cpu"}], "passes": 9, "waiting": "passive"}
ALONE = ENVIRONMENT.model_copy(update={"affinity": [0], "variables": {"OMP_NUM_THREADS": "1"}})
"""One core, one thread."""
SPEEDS = {"jax": 1.0, "pytorch": TRUE_RATIO, "transformers": 3.0}

Beside = Callable[["Machine", float], tuple[float, float]]


@dataclass
class Machine:
    """A machine in virtual time.

    Attributes:
        now_ns: the true time.
        own_seconds: processor time of the measuring processes.
        others_seconds: processor time of all other processes.
        scale: factor on the duration of all work.
        rate: rates of the measuring process's clocks: `perf_counter_ns`, and the raw clock.
        owed: seconds of work that the measuring process does once its clock has stopped.
        turn_of: the round whose turn it is.
        order: what the conductor orders.
        n_turns: turns so far.
        beside: maps a work's duration to the extra seconds that it takes and to the processor seconds of others.
    """

    rng: np.random.Generator
    scale: float = 1.0
    now_ns: int = 0
    own_seconds: float = 0.0
    others_seconds: float = 0.0
    n_compiles: int = 0
    owed: float = 0.0
    rate: tuple[float, float] = (1.0, 1.0)
    turn_of: PlannedRound | None = None
    order: str = ""
    n_turns: int = 0
    beside: Beside | None = None
    _shown: list[float] = field(default_factory=lambda: [0.0, 0.0])

    def work(self, seconds: float, cores: float = 1.0) -> None:
        """Compute, on one core or several."""
        taken = seconds * self.scale * float(np.exp(self.rng.normal(0, CALL_SCATTER)))
        self.own_seconds += taken * cores
        longer, others = self.beside(self, taken) if self.beside and self.turn_of else (0.0, 0.0)
        self.others_seconds += others
        self.pass_by(taken + longer)

    def pass_by(self, seconds: float) -> None:
        """Advance all clocks."""
        self.now_ns += int(seconds * 1e9)
        self._shown = [shown + seconds * 1e9 * rate for shown, rate in zip(self._shown, self.rate, strict=True)]

    def set_back(self, seconds: float) -> None:
        """Set `perf_counter_ns` back."""
        self._shown[0] -= seconds * 1e9 * self.scale

    def true_ns(self) -> int:
        """Read the conductor's clock."""
        self.pass_by(READING_NS / 1e9)
        return self.now_ns

    def perf_counter_ns(self) -> int:
        """Read the clock that figures are taken from, in the measuring process."""
        self.pass_by(READING_NS / 1e9)
        return int(self._shown[0])

    def clock_gettime_ns(self, _clock: int) -> int:
        """Read the raw clock, in the measuring process."""
        self.pass_by(READING_NS / 1e9)
        return int(self._shown[1])


class Scorer:
    """An honest backend.

    Attributes:
        speed: duration of its calls, relative to JAX.
    """

    def __init__(self, machine: Machine, planned: PlannedRound, speed: float, params: Params) -> None:
        self.machine, self.planned, self.speed, self.params = machine, planned, speed, params
        self.compile_events: list = []
        framework = planned.backend if planned.backend in ("jax", "pytorch") else "pytorch"
        self.info = BackendInfo(
            backend=planned.backend, view=planned.view, framework=framework, device="cpu", dtype="float32",
            precision="float32",
        )  # fmt: skip

    def prepare(self, requests: list[ScoreRequest]) -> None:
        """Nothing to compile."""

    def score(self, request: ScoreRequest) -> Scores:
        """Compute and return the scores."""
        self.machine.work(self.due(request))
        return truth(request)

    def due(self, request: ScoreRequest) -> float:
        """Return the duration of a call in seconds."""
        return CALL_SECONDS * self.speed * (1 / 3 + ITEM_SHARE * len(request.items_ids))


Factory = Callable[[Machine, PlannedRound, float, Params], Scorer]


@functools.cache
def _tables() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(3)
    return rng.normal(size=(400, 16)), rng.normal(size=(400, 16, 16))


def truth(request: ScoreRequest) -> Scores:
    """Return P(label) of a toy model. It depends on the query, the item and the order of their tokens."""
    tokens, labels = _tables()

    def state(ids: tuple[int, ...], first: int) -> np.ndarray:
        return np.cos(np.arange(first, first + len(ids)))[None] @ tokens[list(ids)] / len(ids) ** 0.5

    query = state(request.query_ids, 0)
    rows = [query + state(ids, len(request.query_ids)) for ids in request.items_ids]
    logits = np.concatenate(rows) @ labels[[label % 400 for label in request.label_ids]].sum(axis=2).T / 4
    shares = np.exp(logits - logits.max(axis=1, keepdims=True))
    return (shares / shares.sum(axis=1, keepdims=True)).astype(np.float32)


@functools.cache
def workload() -> Workload:
    """Return two queries of eight items."""
    rng = np.random.default_rng(5)
    requests = [
        WorkloadRequest(
            id=f"q{q}", query_ids=rng.integers(1, 400, 24).tolist(), label_ids=[100, 200],
            items_ids=[rng.integers(1, 400, n).tolist() for n in (3, 5, 4, 6, 3, 4, 5, 6)],
        )
        for q in range(2)
    ]  # fmt: skip
    return Workload(name="w", origin="tests", apply_softmax=True, tokenizer_sha256=None, requests=requests)


@dataclass
class Trial:
    """One simulated run.

    Attributes:
        sides: backends to replace, by name.
        scored: the workload.
        scale, beside: see `Machine`.
    """

    folder: Path
    seed: int = 7
    scale: float = 1.0
    params: Mapping[str, Any] = field(default_factory=dict)
    sides: Mapping[str, Factory] = field(default_factory=dict)
    beside: Beside | None = None
    scored: Workload = field(default_factory=workload)

    def run(self) -> Comparison:
        """Measure all rounds of the plan and compare them."""
        params = make_params(**{**PARAMS, **self.params}, seed=self.seed)
        store = write_run(self.folder, params=params, keep=lambda _: False)
        manifest = store.manifest()
        flops = {size: int(n * self.scale) for size, n in manifest.call_flops.items()}
        floor = int(FLOOR_FLOPS * self.scale)
        manifest = manifest.model_copy(
            update={"workload_sha256": self.scored.sha256, "floor_flops": floor, "call_flops": flops}
        )
        machine = Machine(np.random.default_rng([self.seed, 1]), self.scale, beside=self.beside)
        rounds: list[Round] = []
        with virtual(machine):
            for group in plan_groups(params):
                tuned = [gather(rounds, p.backend, p.view, p.target, "").best_chunk for p in group]
                chosen = {p.name: size for p, size in zip(group, tuned, strict=True) if size is not None}
                seeds = seeds_for(group, rounds[0] if rounds else None)
                rounds += self._measured(params, store, group, chosen, seeds, machine)
        return compare_run(manifest, self.scored, store.readiness(), rounds)

    def _measured(self, params: Params, store: RunStore, group, chosen, seeds, machine: Machine) -> list[Round]:
        drafts = {planned.name: Draft(store, planned, params, self.scored) for planned in group}
        members = {}
        for planned in group:
            speed = SPEEDS[planned.backend] * float(np.exp(machine.rng.normal(0, PROCESS_SCATTER)))
            drafts[planned.name].weights_sha256 = "w" * 64
            backend = self.sides.get(planned.backend, Scorer)(machine, planned, speed, params)
            members[planned.name] = Member(planned, _TurnTaker(drafts[planned.name], backend, "cpu").answer, machine)
        name = f"{group[0].index}-{group[0].view}-{group[0].role}" if len(group) > 1 else None
        began = machine.now_ns
        Conductor(
            members, score_of(params, self.scored, group, chosen=chosen, seeds=seeds), {"group": name, "n": len(group)},
            np.random.default_rng([params.seed, group[0].index]), clock=machine.true_ns,
            watch=lambda _: Watch(machine),
        ).conduct()  # fmt: skip
        for one in drafts.values():
            one.seconds_before = (machine.now_ns - began) / 1e9
        return [one.write() for one in drafts.values()]


class Member:
    """A simulated process. Orders take time to reach it, and its work may continue after its answer."""

    def __init__(self, planned: PlannedRound, answer, machine: Machine) -> None:
        self.planned, self._answer, self._machine = planned, answer, machine

    def ask(self, **order: Any) -> dict[str, Any]:
        """Carry out an order."""
        self._machine.pass_by(PIPE_NS / 1e9)
        self._machine.turn_of, self._machine.order = self.planned, order["do"]
        self._machine.n_turns += order["do"] == "turn"
        answer = self._answer(order)
        owed, self._machine.owed = self._machine.owed, 0.0
        if owed:
            self._machine.work(owed)
        return answer


class Watch:
    """Report the processor time of other processes, as `measure.noise.Bystanders` does."""

    def __init__(self, machine: Machine) -> None:
        self._machine, self._seen = machine, 0.0

    def seconds(self) -> tuple[float, float]:
        """Return processor seconds of others and stolen seconds since the last call."""
        found, self._seen = self._machine.others_seconds - self._seen, self._machine.others_seconds
        return found, 0.0


@contextmanager
def virtual(machine: Machine) -> Iterator[None]:
    """Replace the clocks and counters of this process by the machine's."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(time, "perf_counter_ns", machine.perf_counter_ns)
        patch.setattr(time, "clock_gettime_ns", machine.clock_gettime_ns)
        patch.setattr("scorematrix.matrix.cells.process_seconds", lambda _: machine.own_seconds)
        patch.setattr(draft, "compile_counter", lambda _: lambda: machine.n_compiles)
        patch.setattr(draft, "describe_environment", lambda: ALONE)
        patch.setattr(draft, "own_processes", list)
        patch.setattr(round, "_measure_ceilings", lambda *_: CEILINGS)
        patch.setattr(round, "NoiseWatch", lambda **_: SimpleNamespace(read=lambda _: None))
        yield
