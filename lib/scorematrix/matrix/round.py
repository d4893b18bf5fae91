"""One round, as the notebook's process lives it: load, prepare, then measure every chunk size."""

from __future__ import annotations

import os
import time
import traceback
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from scorematrix.matrix.params import Params
from scorematrix.matrix.plan import chunk_order
from scorematrix.measure import Watchdog, describe_environment, set_up_process, time_pass
from scorematrix.measure.clock import PassSample
from scorematrix.measure.memory import HostMemory
from scorematrix.models.cache import cache_folder
from scorematrix.models.catalogue import load_model
from scorematrix.readiness.targets import target
from scorematrix.results import BackendRecord, Ceilings, Cell, Compile, PlannedRound, Round, RunStore, Setup
from scorematrix.scoring import BACKENDS, Backend, load_backend
from scorematrix.scoring.ceilings import measure_ceilings
from scorematrix.workload import ScoreRequest, Workload

TIMEOUT_EXIT_CODE = 75


def run_round(run: str | Path, planned: PlannedRound) -> Round:
    """Measure a round in this process and write it to its run folder.

    A cell that fails is recorded with its error and the next one goes on. A call that outlasts
    `call_timeout_seconds` cannot be interrupted: the round is recorded up to it and the process ends.
    """
    store = RunStore(run)
    manifest, workload = store.manifest(), store.workload()
    params = Params.model_validate(manifest.params)
    set_up_process(target(planned.target).kind, params.threads, cache_folder() / "compiled")
    draft = _Draft(store, planned, params, workload)
    try:
        backend = draft.load()
        for chunk_size in draft.chunk_sizes:
            draft.add(_measure_cell(backend, workload, chunk_size, params, draft))
        if planned.role == "tuning" and BACKENDS[planned.backend].environment is None:  # others have no such probe
            draft.ceilings = _measure_ceilings(backend, target(planned.target).kind)
    except Exception as error:  # the round as a whole: the model does not load, say
        draft.error = _text(error)
    return draft.write()


class _Draft:
    """A round in the making: whatever happens, what is known so far can be written as a whole file."""

    def __init__(self, store: RunStore, planned: PlannedRound, params: Params, workload: Workload) -> None:
        self.store, self.planned, self.params, self.workload = store, planned, params, workload
        # The reference is exact at any chunk size: one pass with whole requests.
        self.is_reference = planned.role == "reference"
        longest = max(len(request.items_ids) for request in workload.requests)
        self.chunk_sizes = [longest] if self.is_reference else chunk_order(params, planned)
        self.cells: list[Cell] = []
        self.current = self.chunk_sizes[0]
        self.error: str | None = None
        self.setup: Setup | None = None
        self.record: BackendRecord | None = None
        self.ceilings: Ceilings | None = None
        self.memory: HostMemory | None = None
        self.weights_sha256: str | None = None
        self.started = datetime.now(UTC)
        self.environment = describe_environment()
        self.watchdog = Watchdog(params.call_timeout_seconds, self._timed_out)

    def load(self) -> Backend:
        planned, params = self.planned, self.params
        start = time.perf_counter()
        model = load_model(params.model, seed=params.model_seed)
        self.weights_sha256 = model.weights.sha256
        loaded = time.perf_counter()
        dtype = "float32" if self.is_reference else params.dtype
        backend = load_backend(
            planned.backend,
            view=planned.view,
            model=model,
            device=target(planned.target).kind,
            dtype=dtype,
            reuse_prefix=params.reuse_prefix if planned.view == "best_native" else 0,
        )
        placed = time.perf_counter()
        self.memory = HostMemory()
        info = backend.info
        self.record = BackendRecord(
            framework=info.framework,
            device=info.device,
            dtype=info.dtype,
            precision=info.precision,
            settings=info.settings,
            fallbacks=list(info.fallbacks),
        )
        backend.prepare([call for size in self.chunk_sizes for calls in chunked(self.workload, size) for call in calls])
        self.setup = Setup(
            load_model_seconds=loaded - start,
            load_backend_seconds=placed - loaded,
            prepare_seconds=time.perf_counter() - placed,
            compiles=[Compile(**vars(event)) for event in backend.compile_events],
        )
        return backend

    def add(self, cell: Cell) -> None:
        self.cells.append(cell)

    def write(self) -> Round:
        self.watchdog.close()
        measured = {cell.chunk_size for cell in self.cells}
        missing = [size for size in self.chunk_sizes if size not in measured]
        why = self.error or f"the round ended at chunk size {self.current}"
        round_ = Round(
            run_id=self.store.manifest().run_id,
            index=self.planned.index,
            role=self.planned.role,
            backend=self.planned.backend,
            view=self.planned.view,
            target=self.planned.target,
            position=self.planned.position,
            started_utc=self.started.isoformat(timespec="seconds"),
            finished_utc=datetime.now(UTC).isoformat(timespec="seconds"),
            params_sha256=self.params.sha256,
            workload_sha256=self.workload.sha256,
            weights_sha256=self.weights_sha256,
            record=self.record,
            setup=self.setup,
            environment=self.environment,
            ceilings=self.ceilings,
            cells=[*self.cells, *(Cell(chunk_size=size, status="not_run", error=why) for size in missing)],
            error=self.error,
        )
        self.store.write_round(round_)
        return round_

    def _timed_out(self) -> None:
        limit = self.params.call_timeout_seconds
        error = f"a call of {self.current} items took longer than call_timeout_seconds={limit:g}"
        self.add(Cell(chunk_size=self.current, status="timeout", error=error))
        self.write()
        os._exit(TIMEOUT_EXIT_CODE)


def chunked(workload: Workload, chunk_size: int) -> list[list[ScoreRequest]]:
    """The calls of every request at a chunk size: [request][call]."""
    return [request.chunks(chunk_size) for request in workload.score_requests()]


def _measure_cell(backend: Backend, workload: Workload, chunk_size: int, params: Params, draft: _Draft) -> Cell:
    draft.current = chunk_size
    requests = chunked(workload, chunk_size)
    n_warmup, n_passes = (0, 1) if draft.is_reference else (params.warmup_passes, params.passes)
    memory = draft.memory or HostMemory()
    memory.reset()
    try:
        warmup = [time_pass(backend, requests, draft.watchdog) for _ in range(n_warmup)]
        made_before = len(backend.compile_events)
        passes = [time_pass(backend, requests, draft.watchdog) for _ in range(n_passes)]
    except Exception as error:
        return Cell(chunk_size=chunk_size, status="failed", error=_text(error))
    return Cell(
        chunk_size=chunk_size,
        status="ok",
        warmup_ns=[sample.call_ns for sample in warmup],
        call_ns=[sample.call_ns for sample in passes],
        compiles_in_window=len(backend.compile_events) - made_before,
        scores=[scores.astype(float).tolist() for scores in passes[-1].scores],
        pass_deviation=_deviation(passes),
        peak_host_bytes=memory.peak_bytes(),
    )


def _measure_ceilings(backend: Backend, device_kind: str) -> Ceilings:
    return Ceilings(**vars(measure_ceilings(backend.info.framework, device_kind, backend.info.dtype)))


def _deviation(passes: list[PassSample]) -> float:
    """Largest absolute difference of any pass from the last; NaN where any score is NaN."""
    last = passes[-1].scores
    return float(np.max([np.abs(a - b).max() for sample in passes for a, b in zip(sample.scores, last)]))


def _text(error: Exception) -> str:
    return "".join(traceback.format_exception_only(error)).strip()[:4000]
