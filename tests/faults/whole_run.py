"""Whole runs in virtual time: the tool's plan, conductor, turns, probes and verdict; only clocks and work are made up.

Two sides score the same, JAX in 1.0 and PyTorch in 1.2 units of time. So PyTorch is a false winner, whatever it does.
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
from scorematrix.matrix.member import Local
from scorematrix.matrix.plan import plan_groups
from scorematrix.matrix.round import _TurnTaker
from scorematrix.matrix.turns import score_of
from scorematrix.results import PlannedRound, Round, RunStore
from scorematrix.scoring import Scores
from scorematrix.scoring.contract import BackendInfo
from scorematrix.workload import ScoreRequest, Workload, WorkloadRequest
from tests.factory import CEILINGS, ENVIRONMENT, FLOOR_FLOPS, make_params, make_run, write_run

TRUE_RATIO = 1.2
CALL_SECONDS = 0.2
"""Of JAX for 8 items; a third of it is the query's."""
ITEM_SHARE = 2 / 3 / 8
CALL_SCATTER, PROCESS_SCATTER = 0.02, 0.004
READING_NS = 20_000
"""Of a clock."""
PIPE_NS = 100_000
"""Of an order to a process and its answer."""
PARAMS = {"comparisons": [{"jax": "cpu", "pytorch": "cpu"}], "passes": 9, "waiting": "passive"}
ALONE = ENVIRONMENT.model_copy(update={"affinity": [0], "variables": {"OMP_NUM_THREADS": "1"}})
"""One core, one thread."""
SPEEDS = {"jax": 1.0, "pytorch": TRUE_RATIO, "transformers": 3.0}

Beside = Callable[["Machine", float], tuple[float, float]]


@dataclass
class Machine:
    """One machine in virtual time.

    Attributes:
        now_ns: the true time.
        own_seconds: processor time of the processes that measure.
        others_seconds: of all others.
        scale: of what all work takes; below 1: calls too short to be timed alone.
        rate: how fast the clocks of the process that measures now run: that of its figures, and the raw one.
        owed: seconds of work that follow once the measuring process has stopped its clock.
        turn_of: the round that has its turn.
        n_turns: so many before this one.
        beside: what others do while it works so many seconds: by how many it takes longer, their processor time.
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
    n_turns: int = 0
    beside: Beside | None = None
    _shown: list[float] = field(default_factory=lambda: [0.0, 0.0])

    def work(self, seconds: float, cores: float = 1.0) -> None:
        """Compute for so long."""
        taken = seconds * self.scale * float(np.exp(self.rng.normal(0, CALL_SCATTER)))
        self.own_seconds += taken * cores
        longer, others = self.beside(self, taken) if self.beside and self.turn_of else (0.0, 0.0)
        self.others_seconds += others
        self.pass_by(taken + longer)

    def pass_by(self, seconds: float) -> None:
        """Let time pass."""
        self.now_ns += int(seconds * 1e9)
        self._shown = [shown + seconds * 1e9 * rate for shown, rate in zip(self._shown, self.rate, strict=True)]

    def set_back(self, seconds: float) -> None:
        """Set the clock of figures back."""
        self._shown[0] -= seconds * 1e9 * self.scale

    def true_ns(self) -> int:
        """Read the clock of the conductor's process."""
        self.pass_by(READING_NS / 1e9)
        return self.now_ns

    def perf_counter_ns(self) -> int:
        """Read the clock of figures, as the measuring process sees it."""
        self.pass_by(READING_NS / 1e9)
        return int(self._shown[0])

    def clock_gettime_ns(self, _clock: int) -> int:
        """Read the raw clock, as the measuring process sees it."""
        self.pass_by(READING_NS / 1e9)
        return int(self._shown[1])


class Scorer:
    """A sound backend. Lies derive from it.

    Attributes:
        speed: what its work takes over JAX's.
    """

    def __init__(self, machine: Machine, planned: PlannedRound, speed: float, params: Params) -> None:
        self.machine, self.planned, self.speed, self.params = machine, planned, speed, params
        self.compile_events: list = []
        framework = planned.backend if planned.backend in ("jax", "pytorch") else "pytorch"
        self.info = BackendInfo(
            backend=planned.backend, view=planned.view, framework=framework, device="cpu", dtype="float32",
            precision="float32", settings={}, fallbacks=[],
        )  # fmt: skip

    def prepare(self, requests: list[ScoreRequest]) -> None:
        """Nothing to compile."""

    def score(self, request: ScoreRequest) -> Scores:
        """Work, then answer."""
        self.machine.work(self.due(request))
        return truth(request)

    def due(self, request: ScoreRequest) -> float:
        """Seconds that an honest call takes."""
        return CALL_SECONDS * self.speed * (1 / 3 + ITEM_SHARE * len(request.items_ids))


Factory = Callable[[Machine, PlannedRound, float, Params], Scorer]


@functools.cache
def _tables() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(3)
    return rng.normal(size=(400, 16)), rng.normal(size=(400, 16, 16))


def truth(request: ScoreRequest) -> Scores:
    """A toy model's P(label): of the query, one item and the order of their tokens; items do not see each other."""
    tokens, labels = _tables()

    def state(ids: tuple[int, ...], first: int) -> np.ndarray:
        return np.cos(np.arange(first, first + len(ids)))[None] @ tokens[list(ids)] / len(ids) ** 0.5

    query = state(request.query_ids, 0)
    rows = [query + state(ids, len(request.query_ids)) for ids in request.items_ids]
    logits = np.stack([[(row @ labels[label % 400]).sum() / 4 for label in request.label_ids] for row in rows])
    shares = np.exp(logits - logits.max(axis=1, keepdims=True))
    return (shares / shares.sum(axis=1, keepdims=True)).astype(np.float32)


@functools.cache
def workload() -> Workload:
    """Two queries of eight items."""
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
    """A run to be made.

    Attributes:
        sides: what stands for a backend, where it is not sound.
        beside: see `Machine`.
    """

    folder: Path
    seed: int = 7
    scale: float = 1.0
    params: Mapping[str, Any] = field(default_factory=dict)
    sides: Mapping[str, Factory] = field(default_factory=dict)
    beside: Beside | None = None

    def run(self) -> Comparison:
        """Measure every round of the plan, and judge them."""
        params = make_params(**PARAMS, **self.params, seed=self.seed)
        store = write_run(self.folder, params=params, keep=lambda _: False)
        manifest, _, readiness, _ = make_run(params, keep=lambda _: False)
        flops = {size: int(n * self.scale) for size, n in manifest.call_flops.items()}
        manifest = manifest.model_copy(
            update={
                "workload_sha256": workload().sha256,
                "floor_flops": int(FLOOR_FLOPS * self.scale),
                "call_flops": flops,
            }
        )
        machine = Machine(np.random.default_rng([self.seed, 1]), self.scale, beside=self.beside)
        rounds: list[Round] = []
        with virtual(machine):
            for group in plan_groups(params):
                tuned = [gather(rounds, p.backend, p.view, p.target, "").best_chunk for p in group]
                chosen = {p.name: size for p, size in zip(group, tuned, strict=True) if size is not None}
                rounds += self._measured(params, store, group, chosen, machine)
        return compare_run(manifest, workload(), readiness, rounds)

    def _measured(self, params: Params, store: RunStore, group, chosen, machine: Machine) -> list[Round]:
        drafts = {planned.name: Draft(store, planned, params, workload()) for planned in group}
        members = {}
        for planned in group:
            speed = SPEEDS[planned.backend] * float(np.exp(machine.rng.normal(0, PROCESS_SCATTER)))
            drafts[planned.name].weights_sha256 = "w" * 64
            backend = self.sides.get(planned.backend, Scorer)(machine, planned, speed, params)
            members[planned.name] = Member(planned, _TurnTaker(drafts[planned.name], backend, "cpu").answer, machine)
        name = f"{group[0].index}-{group[0].view}-{group[0].role}" if len(group) > 1 else None
        began = machine.now_ns
        Conductor(
            members, score_of(params, workload(), group, chosen=chosen), {"group": name, "n": len(group)},
            np.random.default_rng([params.seed, group[0].index]), clock=machine.true_ns,
            watch=lambda _: Watch(machine),
        ).conduct()  # fmt: skip
        for one in drafts.values():
            one.watchdog.close()
            one.seconds_before = (machine.now_ns - began) / 1e9
        return [one._round() for one in drafts.values()]


class Member(Local):
    """A process of its own: others may take part of its turn, and an order takes a while to reach it."""

    def __init__(self, planned: PlannedRound, answer, machine: Machine) -> None:
        super().__init__(planned, answer)
        self._machine = machine

    def ask(self, **order: Any) -> dict[str, Any]:
        """Have an order carried out."""
        self._machine.pass_by(PIPE_NS / 1e9)
        self._machine.turn_of = self.planned
        self._machine.n_turns += order["do"] == "turn"
        answer = super().ask(**order)
        owed, self._machine.owed = self._machine.owed, 0.0
        if owed:
            self._machine.work(owed)
        return answer


class Watch:
    """What processor time others took, told as `measure.noise.Bystanders` does."""

    def __init__(self, machine: Machine) -> None:
        self._machine, self._seen = machine, 0.0

    def seconds(self) -> tuple[float, float]:
        """Since it was last asked."""
        found, self._seen = self._machine.others_seconds - self._seen, self._machine.others_seconds
        return found, 0.0


@contextmanager
def virtual(machine: Machine) -> Iterator[None]:
    """Have rounds that are measured in this process live in the machine's time."""
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
