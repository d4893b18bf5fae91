"""An unfinished round. At any time, what is known so far can be written as a complete file."""

from __future__ import annotations

import gc
import os
import time
from collections.abc import Sequence
from typing import Any

import psutil

from scorematrix.matrix.memory import refused_chunks
from scorematrix.matrix.meter import Meter, error_text
from scorematrix.matrix.params import Params
from scorematrix.matrix.plan import chunk_order
from scorematrix.measure import Watchdog, describe_environment
from scorematrix.measure.memory import HostMemory
from scorematrix.measure.process import own_processes, processes_at
from scorematrix.models.catalogue import load_model
from scorematrix.models.config import DecoderConfig
from scorematrix.privacy import printable, redacted
from scorematrix.readiness.device_users import with_holder
from scorematrix.readiness.targets import target
from scorematrix.results import (
    BackendRecord,
    Ceilings,
    Cell,
    Compile,
    FormTime,
    Noise,
    PlannedRound,
    Probes,
    Profile,
    ReferenceSample,
    Round,
    RunStore,
    Setup,
)
from scorematrix.results.files import utc_now
from scorematrix.scoring import Backend, backend_entry, load_backend
from scorematrix.scoring.compiles import compile_counter
from scorematrix.wings import needed_wing
from scorematrix.workload import ScoreRequest, Workload
from scorematrix.workload.fresh import FreshTokens

PREPARED_SEED = 0
"""Seed of the tokens that programs are prepared with."""
EXIT_CODE = 75


def collect_and_freeze() -> None:
    """Collect garbage and freeze what remains, so that collections between turns do not scan loaded modules."""
    gc.collect()
    gc.freeze()


class Draft:
    """What this process and its predecessors know of a round."""

    def __init__(self, store: RunStore, planned: PlannedRound, params: Params, workload: Workload) -> None:
        self.store, self.planned, self.params, self.workload = store, planned, params, workload
        self.is_reference = planned.role == "reference"
        self.chunk_sizes = chunk_order(params, planned)
        earlier = store.draft(planned.name)
        self.n_processes = earlier.n_processes + 1 if earlier else 1
        self.cells = [cell for cell in earlier.cells if cell.status != "not_run"] if earlier else []
        self.todo = self._pending()
        self.current = self.todo[0]
        self.group: str | None = None
        self.alone_because: str | None = None
        self.pipe_ns: int | None = None
        self._loaded_seconds = (0.0, 0.0)
        self.unprepared: dict[int, str] = {}
        self.error: str | None = None
        self.live: Any = None  # the client of a live server
        self.events = earlier.events if earlier else []
        self.tries = store.earlier_tries(planned.name)
        self.setup: Setup | None = None
        self.record: BackendRecord | None = None
        self.ceilings: Ceilings | None = None
        self.probes: Probes | None = None
        self.profile: Profile | None = None
        self.samples: list[ReferenceSample] = []
        self.forms: list[FormTime] = []
        self.noise: Noise | None = None
        self.weights_sha256: str | None = None
        self.config: DecoderConfig | None = None
        self.started_utc = earlier.started_utc if earlier else utc_now()
        self.seconds_before = earlier.seconds or 0.0 if earlier else 0.0
        self.began = time.monotonic()
        self.environment = describe_environment()
        self.watchdog = Watchdog(params.call_timeout_seconds, self._timed_out)

    def load(self) -> Backend:
        """Load the model and the backend, and compile nothing yet."""
        planned, params = self.planned, self.params
        self.unprepared = refused_chunks(params, planned, self.workload)
        if all(size in self.unprepared for size in self.todo):
            raise ValueError(self.unprepared[min(self.todo)])
        start = time.perf_counter()
        model = load_model(params.model, seed=params.model_seed)
        self.weights_sha256, self.config = model.weights.sha256, model.config
        loaded = time.perf_counter()
        dtype = "float32" if self.is_reference else params.dtype
        if backend_entry(planned.backend).is_live:
            assert params.dtype != "auto"  # Params refuses it with servers
            backend = self.live = self._servers.LiveBackend(
                planned.backend,
                params.places[planned.backend],
                model=model,
                dtype=params.dtype,
                device=target(planned.target).kind,
                log=self.store.log_path(planned.name),
                timeout_seconds=params.call_timeout_seconds,
                spins=planned.waiting == "spinning",
            )
        else:
            backend = load_backend(
                planned.backend,
                view=planned.view,
                model=model,
                device=target(planned.target).kind,
                dtype=dtype,
                reuse_prefix=params.reuse_prefix if planned.view == "best_native" else 0,
                mesh=params.mesh_of(planned.backend, planned.view, planned.target),
                attention=planned.attention,
            )
        self._loaded_seconds = loaded - start, time.perf_counter() - loaded
        return backend

    def _unseen(self, chunk_size: int) -> list[ScoreRequest]:
        """Return calls with the workload's lengths and other tokens, so that preparing does not see the timed ones."""
        requests = self.workload.score_requests()
        fresh = FreshTokens(requests)
        return [call for request in requests for call in fresh.like(request, PREPARED_SEED).chunks(chunk_size)]

    def prepare(self, backend: Backend, chunk_sizes: Sequence[int]) -> Meter:
        """Compile the chunk sizes. One that fails is recorded, and the others are still compiled."""
        self.chunk_sizes = [*chunk_sizes, *{c.chunk_size for c in self.cells}]
        start = time.perf_counter()
        memory = HostMemory()
        for size in [size for size in chunk_sizes if size not in self.unprepared]:
            try:
                backend.prepare(self._unseen(size))
            except Exception as error:
                self.unprepared[size] = error_text(error)
        info = backend.info  # after preparing, which may add fallbacks
        self.record = BackendRecord(
            framework=info.framework,
            device=info.device,
            dtype=info.dtype,
            precision=info.precision,
            settings=info.settings,
            fallbacks=[redacted(fallback) for fallback in info.fallbacks],
        )
        load_model_seconds, load_backend_seconds = self._loaded_seconds
        self.setup = Setup(
            load_model_seconds=load_model_seconds,
            load_backend_seconds=load_backend_seconds,
            prepare_seconds=time.perf_counter() - start,
            compiles=[Compile(**vars(event)) for event in backend.compile_events],
        )
        collect_and_freeze()
        n_warmup = 0 if self.is_reference else self.params.warmup_passes
        is_here = not backend_entry(self.planned.backend).is_live  # a server's compiles are not visible here
        compiles = compile_counter(info.framework) if is_here else lambda: 0
        touch = self.live.touch if self.live is not None else None
        return Meter(self.workload, n_warmup, self.watchdog, memory, compiles, self.processes(), touch)

    def processes(self) -> list[psutil.Process]:
        """Return the processes that compute for this round: this one, its workers, a live server on this machine."""
        theirs = processes_at(self.live.address) or [] if self.live is not None else []
        return list(dict.fromkeys([*own_processes(), *theirs]))

    def take(self, cells: Sequence[Cell]) -> None:
        """Add measured cells."""
        self.cells += [c.model_copy(update={"error": self.explained(c.error)}) if c.error else c for c in cells]

    def study(self) -> None:
        """In the first tuning round, audit the round's live server and put it under load, as the params request.

        A server whose way of waiting is tuned is studied with threads that wait passively, as in unattended use.
        """
        if self.planned.index > 0 or (self.planned.waiting == "spinning" and self.params.waiting == "tuned"):
            return
        if (result := self._servers.study_server(self.live, self.params, self.planned, self.workload)) is not None:
            self.store.write_study(result)

    @property
    def _servers(self) -> Any:
        return needed_wing("servers", f"backend {self.planned.backend!r}")

    def end_live(self) -> None:
        """Stop the round's live server, if any; keep its events, and its output without credentials."""
        if self.live is not None:
            self.live.close()
            self.store.redact_log(self.planned.name, lambda log: printable(redacted(log)))
            self.events, self.live = self._all_events(), None

    def leave(self) -> None:
        """End this process, which is unfit to measure, but first its server, so that the next one does not meet it."""
        try:
            self.end_live()
        finally:
            os._exit(EXIT_CODE)

    def explained(self, error: str) -> str:
        """Return the redacted error; if another process has the device, that process comes first."""
        return redacted(with_holder(error, target(self.planned.target).kind))

    def save(self) -> None:
        """Save what is measured so far, in case this process dies."""
        self.store.write_draft(self._round())

    def write(self) -> Round:
        self.watchdog.close()
        round_ = self._round()
        self.store.write_round(round_)
        return round_

    def _pending(self) -> list[int]:
        measured = {cell.chunk_size for cell in self.cells}
        return [size for size in self.chunk_sizes if size not in measured]

    def _round(self) -> Round:
        why = self.error or f"the round ended at chunk size {self.current}"
        pending = [Cell(chunk_size=size, status="not_run", error=why) for size in self._pending()]
        return Round(
            run_id=self.store.manifest().run_id,
            **self.planned.model_dump(),
            started_utc=self.started_utc,
            finished_utc=utc_now(),
            seconds=self.seconds_before + time.monotonic() - self.began,
            group=self.group,
            alone_because=self.alone_because,
            pipe_ns=self.pipe_ns,
            params_sha256=self.params.sha256,
            workload_sha256=self.workload.sha256,
            weights_sha256=self.weights_sha256,
            record=self.record,
            setup=self.setup,
            environment=self.environment,
            ceilings=self.ceilings,
            probes=self.probes,
            profile=self.profile,
            samples=self.samples,
            forms=self.forms,
            noise=self.noise,
            n_processes=self.n_processes,
            tries=self.tries,
            cells=[*self.cells, *pending],
            error=self.error,
            events=self._all_events(),
        )

    def _all_events(self) -> list[str]:
        """Return the events of live servers in this process and its predecessors."""
        return [*self.events, *(redacted(event) for event in (self.live.events if self.live else []))]

    def _timed_out(self) -> None:
        limit = self.params.call_timeout_seconds
        error = f"a call of {self.current} items took longer than call_timeout_seconds={limit:g}"
        self.cells.append(Cell(chunk_size=self.current, status="timeout", error=error))
        try:
            if self._pending():
                self.save()
            else:
                self.store.write_round(self._round())
        finally:  # even if the disk is full: the call would never end
            self.leave()
