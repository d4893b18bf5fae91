"""One round in the notebook's process: load, then prepare, warm up and measure as a conductor orders."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from scorematrix.matrix.cells import CellInTurns
from scorematrix.matrix.conductor import Conductor, Member
from scorematrix.matrix.draft import Draft, collect_and_freeze
from scorematrix.matrix.member import ConductorGone, Orders, orders_from, own_orders
from scorematrix.matrix.meter import Meter, error_text
from scorematrix.matrix.params import Params
from scorematrix.matrix.turns import score_of
from scorematrix.measure import set_up_process
from scorematrix.measure.noise import NoiseWatch
from scorematrix.measure.process import processes_at
from scorematrix.models.cache import cache_folder
from scorematrix.readiness.targets import target
from scorematrix.results import SIDES, Ceilings, PlannedRound, Round, RunStore, Setup, StorageFailed
from scorematrix.scoring import Backend, BackendInfo, backend_entry, missing_packages
from scorematrix.scoring.ceilings import PROBED, measure_ceilings
from scorematrix.scoring.mesh import Mesh


def run_round(run: str | Path, planned: PlannedRound, conductor: str = "") -> Round:
    """Measure a round in this process and write it to its run folder: all steps of `RoundInSteps`."""
    steps = RoundInSteps(run, planned, conductor)
    steps.load()
    steps.prepare()
    steps.warm_up()
    steps.measure()
    return steps.record()


class RoundInSteps:
    """One round, step by step as `02_score_matrix.ipynb` shows it: load, prepare, warm up, measure, record.

    A cell that fails is recorded with its error, and the next one follows. A step that fails ends the round: the error
    is recorded, and later steps do nothing. A cell ends the process if memory ran out, or if a call exceeded
    `call_timeout_seconds` and cannot be interrupted. What is known then stays in a draft, and whoever executes the
    rounds continues it in a fresh process.

    Args:
        run: the run folder.
        conductor: socket of the process that hands out turns to a group, with the group's name; empty: this round is
            measured alone.
    """

    def __init__(self, run: str | Path, planned: PlannedRound, conductor: str = "") -> None:
        store = RunStore(run)
        planned = _planned(store, planned)
        self._params = Params.model_validate(store.manifest().params)
        self._kind = target(planned.target).kind
        set_up_process(self._kind, self._params.threads, cache_folder() / "compiled", planned.waiting or "passive")
        self._planned, self._conductor = planned, conductor
        self._draft = Draft(store, planned, self._params, store.workload())
        # Also for a round that fails before the others take turns: it was alive at the same time.
        self._draft.group = Path(conductor).name or None
        self._taker: _TurnTaker | None = None
        self._orders: Orders | None = None
        self._order: dict[str, Any] | None = None

    def load(self) -> BackendInfo | str:
        """Load the model and the backend; return what the backend is, or the error."""
        with self._recording_errors():
            backend = self._draft.load()
            self._taker = _TurnTaker(self._draft, backend, self._kind)
            if self._conductor:
                self._orders = orders_from(self._conductor, self._planned.name)
            else:
                self._orders = own_orders(self._planned, self._conduct_alone)
            self._order = next(self._orders)
            return backend.info
        return self._draft.error or ""

    def prepare(self) -> Setup | None:
        """Compile every program that will be timed, with other tokens; return how long loading and compiling took."""
        self._follow("prepare")
        return self._draft.setup

    def warm_up(self) -> None:
        """Make the untimed passes. The next order, an empty one, waits for `measure`: a timed one must not."""
        self._follow("warm_up")

    def measure(self) -> None:
        """Make the timed calls, in turns if there is a conductor, and chunk size by chunk size."""
        self._follow("ping", "warm_up", "turn")

    def record(self) -> Round:
        """Run the probes of a tuning round, write the round to its run folder, and return it."""
        try:
            self._follow("settle", "after", "end")
        finally:
            self._draft.end_live()
        return self._draft.write()

    def _follow(self, *orders: str) -> None:
        """Execute orders while they are of these kinds."""
        with self._recording_errors():
            while self._order is not None and self._order["do"] in orders:
                assert self._taker is not None and self._orders is not None  # both are set before the first order
                self._order = self._orders.send(self._taker.answer(self._order))

    @contextmanager
    def _recording_errors(self) -> Iterator[None]:
        """Record a step's error as the round's, except for errors of the disk, which are raised."""
        try:
            yield
        except StopIteration:  # that was the last order
            self._order = None
        except ConductorGone:  # what is not measured yet has no partner any more
            self._draft.leave()
        except StorageFailed:  # not a result: whoever executes rounds stops
            self._draft.end_live()
            raise
        except Exception as error:  # the step failed: for example, the model does not load
            self._order = None
            self._draft.error = self._draft.explained(error_text(error))

    def _conduct_alone(self, member: Member) -> None:
        score = score_of(self._params, self._draft.workload, [self._planned], {self._planned.name: self._draft.todo})
        group_facts = {"alone_because": "its notebook was executed alone"}
        rng = np.random.default_rng([self._params.seed, self._planned.index])
        Conductor({self._planned.name: member}, score, group_facts, rng).conduct()


def _planned(store: RunStore, round_: PlannedRound) -> PlannedRound:
    """Return a round with its place in the plan.

    Raises:
        ValueError: for a round that is not in the run's plan, or that is recorded.
    """
    plan = store.manifest().plan
    for field in ("backend", "view", "target", "role", "index"):
        known = list(dict.fromkeys(getattr(planned, field) for planned in plan))
        if (value := getattr(round_, field)) not in known:
            raise ValueError(f"{field}={value!r} is not in this run's plan; it has {', '.join(map(str, known))}")
    places = {planned.name: planned.position for planned in plan}
    if round_.name not in places:
        raise ValueError(f"round {round_.name} is not in this run's plan; see `plan` in {store.folder}/run.json")
    if store.round_path(round_.name).exists():
        raise ValueError(
            f"round {round_.name} is recorded, and a round is recorded once; start a new run to measure it again, or "
            "use `scorematrix run --retry-failed` if it failed"
        )
    return round_.model_copy(update={"position": places[round_.name]})


class _TurnTaker:
    """Executes a conductor's orders with a loaded backend."""

    def __init__(self, draft: Draft, backend: Backend, device_kind: str) -> None:
        self._draft, self._backend, self._kind = draft, backend, device_kind
        self._cells: dict[tuple[int, float], CellInTurns] = {}
        self._order: list[CellInTurns] = []

    def answer(self, order: dict[str, Any]) -> dict[str, Any]:
        """Execute one order: prepare, warm_up, ping, turn, settle, after, end."""
        arguments = {key: value for key, value in order.items() if key != "do"}
        return getattr(self, f"_{order['do']}")(**arguments)

    def _prepare(self, cells: list, group: str | None = None, alone_because: str | None = None, n: int = 1) -> dict:
        draft = self._draft
        draft.group, draft.alone_because = group, alone_because
        self._meter = draft.prepare(self._backend, list(dict.fromkeys(chunk for chunk, _ in cells)))
        self._cells = {(c, s): CellInTurns(self._meter, self._backend, c, s) for c, s in cells}
        self._noise = NoiseWatch(gpu=self._kind == "gpu", partners=n - 1)
        draft.save()
        return {"pids": self._pids()}

    def _warm_up(self, chunk: int, slowdown: float) -> dict:
        cell, draft = self._cells[chunk, slowdown], self._draft
        draft.current = chunk
        if (error := draft.unprepared.get(chunk)) is not None:
            cell.error = error
            return {"error": error}
        cell.warm_up()
        collect_and_freeze()  # what the first calls imported
        return self._said(cell)

    def _ping(self) -> dict:
        return {}

    def _turn(self, chunk: int, slowdown: float, lap: int, request: int, seed: int | None = None) -> dict:
        cell = self._cells[chunk, slowdown]
        self._draft.current = chunk
        self._order.append(cell)
        cell.turn(lap, request, seed)
        return self._said(cell) | {"seconds": cell.last_seconds}

    def _said(self, cell: CellInTurns) -> dict:
        """Return the cell's error, if any. If memory ran out and the round has other cells, this process leaves."""
        if cell.error is None:
            return {}
        if len(self._cells) > 1 and cell.ran_out_of_memory:
            self._draft.take([cell.failed()])
            self._draft.save()
            return {"error": cell.error, "leaves": True}
        self._meter.processes[:] = self._draft.processes()
        return {"error": cell.error, "pids": self._pids()}

    def _pids(self) -> list[int]:
        return [process.pid for process in self._meter.processes]

    def _settle(self, facts: list[dict[str, Any]], pipe_ns: int | None = None) -> dict:
        """Add what the conductor knows of each turn, in order."""
        self._draft.pipe_ns = pipe_ns
        sound = [cell for cell in self._order if cell.error is None]
        facts_of: dict[int, list[dict[str, Any]]] = {id(cell): [] for cell in self._cells.values()}
        for fact in facts:
            cell = self._cells[fact.pop("chunk"), fact.pop("slowdown")]
            facts_of[id(cell)].append(fact)
        cells = [cell.cell(facts_of[id(cell)]) for cell in self._cells.values()]
        self._draft.take(cells)
        self._draft.noise = self._noise.read([turn for cell in cells for turn in cell.turns]) if sound else None
        return {}

    def _after(self) -> dict:
        draft = self._draft
        if draft.planned.role == "tuning":
            _after_tuning(draft, self._backend, self._meter, self._kind)
        if draft.is_reference and all(cell.status == "ok" for cell in draft.cells):
            first = draft.params.tuning_rounds
            draft.samples = [self._meter.sample(self._backend, first + i) for i in range(draft.params.rounds)]
        return {}

    def _end(self) -> dict:
        return {}


def _after_tuning(draft: Draft, backend: Backend, meter: Meter, device_kind: str) -> None:
    """Make a tuning round's further measurements: probes, server study, ceilings, attention forms and profile."""
    entry = backend_entry(draft.planned.backend)
    if sound := [cell.chunk_size for cell in draft.cells if cell.status == "ok"]:
        caching = draft.planned.backend in SIDES or entry.address is not None
        draft.probes = meter.probes(backend, max(sound), caching=caching)
    is_measurable = entry.address is None or device_kind == "cpu" or backend.info.framework in PROBED
    is_ours = True
    if draft.live is not None:
        is_ours = draft.live.is_launched
        is_measurable = is_ours or processes_at(draft.live.address) is not None  # else its device is elsewhere
        draft.study()
        draft.end_live()  # it may hold the device's memory
    if is_measurable and entry.environment is None and not (entry.is_live and missing_packages(entry.framework)):
        try:
            draft.ceilings = _measure_ceilings(backend, device_kind)
        except Exception:
            if is_ours:
                raise
            # Somebody else's server still runs, and has the device.
    if sound:
        draft.forms = meter.forms(backend, max(sound))
    if sound and draft.config is not None:
        draft.profile = meter.profile(backend, draft.config, max(sound))  # last: nothing is timed after a profiler ran


def _measure_ceilings(backend: Backend, device_kind: str) -> Ceilings:
    of_device = measure_ceilings(backend.info.framework, device_kind, backend.info.dtype)
    mesh = Mesh.parse(str(backend.info.settings.get("mesh", "data=1")))
    # One device was measured. Every device of a mesh has this ceiling, but on a CPU they share the cores.
    return Ceilings(**vars(of_device.times(1 if device_kind == "cpu" else mesh.size)))
