"""One round, as the notebook's process lives it: load, then prepare, warm up and measure as a conductor says."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from scorematrix.matrix.cells import CellInTurns, Meter, error_text
from scorematrix.matrix.conductor import Conductor
from scorematrix.matrix.draft import OUT_OF_MEMORY, Draft
from scorematrix.matrix.member import Local, serve_turns
from scorematrix.matrix.params import Params
from scorematrix.matrix.turns import score_of
from scorematrix.measure import set_up_process
from scorematrix.measure.noise import NoiseWatch
from scorematrix.models.cache import cache_folder
from scorematrix.readiness.targets import target
from scorematrix.results import SIDES, Ceilings, Cell, PlannedRound, Round, RunStore, StorageFailed
from scorematrix.scoring import Backend, backend_entry, missing_packages
from scorematrix.scoring.ceilings import PROBED, measure_ceilings
from scorematrix.scoring.mesh import Mesh


def run_round(run: str | Path, planned: PlannedRound, conductor: str = "") -> Round:
    """Measure a round in this process and write it to its run folder.

    A cell that fails is recorded with its error and the next one goes on. One that leaves the process unfit, because
    memory ran out or a call outlasted `call_timeout_seconds` and cannot be interrupted, ends the process: what is
    known stays in a draft, and whoever executes rounds goes on with it in a fresh one.

    Args:
        conductor: socket of whoever hands out turns to all rounds of a group; empty: this round is measured alone.
    """
    store = RunStore(run)
    manifest, workload = store.manifest(), store.workload()
    params = Params.model_validate(manifest.params)
    kind = target(planned.target).kind
    set_up_process(kind, params.threads, cache_folder() / "compiled", planned.waiting or "passive")
    draft = Draft(store, planned, params, workload)
    try:
        taker = _TurnTaker(draft, draft.load(), kind)
        if conductor:
            serve_turns(conductor, planned.name, taker.answer, draft.leave)
        else:
            Conductor(
                {planned.name: Local(planned, taker.answer)},
                score_of(params, workload, [planned], {planned.name: draft.todo}),
                {"alone_because": "its notebook was executed on its own"},
                np.random.default_rng([params.seed, planned.index]),
            ).conduct()
    except StorageFailed:  # not a result: whoever executes rounds stops
        raise
    except Exception as error:  # the round as a whole: the model does not load, say
        draft.error = draft.explained(error_text(error))
    finally:
        draft.end_live()
    return draft.write()


class _TurnTaker:
    """Carries out a conductor's orders with a loaded backend."""

    def __init__(self, draft: Draft, backend: Backend, device_kind: str) -> None:
        self._draft, self._backend, self._kind = draft, backend, device_kind
        self._cells: dict[tuple[int, float], CellInTurns] = {}
        self._order: list[CellInTurns] = []

    def answer(self, order: dict[str, Any]) -> dict[str, Any]:
        """One order: prepare, warm_up, ping, turn, settle, after, end."""
        asked = {key: value for key, value in order.items() if key != "do"}
        return getattr(self, f"_{order['do']}")(**asked)

    def _prepare(self, cells: list, group: str | None = None, alone_because: str | None = None, n: int = 1) -> dict:
        draft = self._draft
        draft.group, draft.alone_because = group, alone_because
        self._meter = draft.prepare(self._backend, list(dict.fromkeys(chunk for chunk, _ in cells)))
        self._cells = {(c, s): CellInTurns(self._meter, self._backend, c, s) for c, s in cells}
        self._noise = NoiseWatch(gpu=self._kind == "gpu", partners=n - 1)
        draft.save()
        return {"pids": [process.pid for process in self._meter.processes]}

    def _warm_up(self, chunk: int, slowdown: float) -> dict:
        cell, draft = self._cells[chunk, slowdown], self._draft
        draft.current = chunk
        if (error := draft.unprepared.get(chunk)) is not None:
            cell.error = error
            return {"error": error}
        cell.warm_up()
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
        """The cell's error; where memory ran out this process is unfit, unless nothing is left to measure."""
        if cell.error is None:
            return {}
        failed = Cell(chunk_size=cell.chunk_size, slowdown=cell.slowdown, status="failed", error=cell.error)
        if len(self._cells) > 1 and any(words in cell.error.lower() for words in OUT_OF_MEMORY):
            self._draft.take([failed])
            self._draft.save()
            return {"error": cell.error, "leaves": True}
        return {"error": cell.error}

    def _settle(self, facts: list[dict[str, Any]], pipe_ns: int | None = None) -> dict:
        """Take in what the conductor knows of each turn, in their order."""
        self._draft.pipe_ns = pipe_ns
        sound = [cell for cell in self._order if cell.error is None]
        told: dict[int, list[dict[str, Any]]] = {id(cell): [] for cell in self._cells.values()}
        for fact in facts:
            cell = self._cells[fact.pop("chunk"), fact.pop("slowdown")]
            told[id(cell)].append(fact)
        cells = [cell.cell(told[id(cell)]) for cell in self._cells.values()]
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
    """What is asked once a side, not in every round: is it honest with its time and its items, and the ceilings."""
    entry = backend_entry(draft.planned.backend)
    if sound := [cell.chunk_size for cell in draft.cells if cell.status == "ok"]:
        caching = draft.planned.backend in SIDES or entry.address is not None
        draft.probes = meter.probes(backend, max(sound), caching=caching)
    if entry.is_live:
        draft.study()
        draft.end_live()  # it has the device to itself while it lives
    is_measurable = entry.address is None or device_kind == "cpu" or backend.info.framework in PROBED
    if is_measurable and entry.environment is None and not (entry.is_live and missing_packages(entry.framework)):
        draft.ceilings = _measure_ceilings(backend, device_kind)
    if sound:
        draft.forms = meter.forms(backend, max(sound))
    if sound and draft.config is not None:
        draft.profile = meter.profile(backend, draft.config, max(sound))  # last: nothing is timed after a profiler ran


def _measure_ceilings(backend: Backend, device_kind: str) -> Ceilings:
    found = measure_ceilings(backend.info.framework, device_kind, backend.info.dtype)
    mesh = Mesh.parse(str(backend.info.settings.get("mesh", "data=1")))
    # One device was measured; devices of a mesh have such a ceiling each, but on a CPU they share its cores.
    return Ceilings(**vars(found.times(1 if device_kind == "cpu" else mesh.size)))
