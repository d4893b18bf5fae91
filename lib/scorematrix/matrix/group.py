"""Measure a group of rounds in turns: each in a fresh papermill kernel, all alive at the same time."""

from __future__ import annotations

import errno
import json
import shutil
import socket
import tempfile
import threading
import time
import uuid
from collections import deque
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from functools import partial

import numpy as np

from scorematrix.matrix.conductor import Conductor
from scorematrix.matrix.member import Remote
from scorematrix.matrix.params import Params
from scorematrix.matrix.plan import chunk_order
from scorematrix.matrix.together import ComputesWhileWaiting, check_waiting, parts_of, polling_before
from scorematrix.matrix.turns import score_of
from scorematrix.notebook_kernels import end_kernels
from scorematrix.notebooks import NotebookFailed, execute_notebook, quietly
from scorematrix.privacy import redacted
from scorematrix.results import Cell, PlannedRound, Round, RunStore, StorageFailed
from scorematrix.results.files import utc_now

NOTEBOOK = "02_score_matrix"


def measure_group(
    params: Params,
    store: RunStore,
    group: Sequence[PlannedRound],
    chosen: Mapping[str, int] | None = None,
    seconds: float | None = None,
    because: str | None = None,
    seeds: Mapping[int, int] | None = None,
) -> list[Round]:
    """Measure rounds in turns if possible, else one after the other. Every round gets a record.

    Args:
        chosen: see `turns.plan_blocks`.
        seconds: for the turns of the group.
        because: why some rounds of their group are not measured with them; None: all are.
        seeds: see `turns.Score`.

    Raises:
        StorageFailed: if the disk cannot be written; only the rounds in flight are lost.
    """
    for planned in group:
        store.drop_round(planned.name)
    workload = store.workload()
    parts = deque(parts_of(params, group, polling_before(store) if params.places else {}, workload))
    while parts:
        members, apart = parts.popleft()
        share = None if seconds is None else seconds * len(members) / len(group)
        try:
            with _Stage(params, store, members, chosen or {}, share, because or apart, seeds) as stage:
                left = stage.perform()
        except ComputesWhileWaiting as found:
            unmeasured = [planned for planned in members if not store.round_path(planned.name).is_file()]
            parts.extend(parts_of(params, unmeasured, found.reasons, workload))
            continue
        for planned in left:  # its process was lost: a fresh one measures the rest
            with _Stage(params, store, [planned], {}, None, "its first process ended early") as stage:
                stage.perform()
    return [store.round(planned.name) for planned in group]


class _Stage:
    """The kernels of one group and the socket between them and the conductor."""

    def __init__(
        self,
        params: Params,
        store: RunStore,
        group: Sequence[PlannedRound],
        chosen: Mapping[str, int],
        seconds: float | None,
        because: str | None,
        seeds: Mapping[int, int] | None = None,
    ) -> None:
        self._params, self._store, self._seeds = params, store, seeds
        self._planned = {planned.name: planned for planned in group}
        self._chosen, self._seconds, self._because = chosen, seconds, because
        self._threads: dict[str, _Notebook] = {}
        self._remotes: dict[str, Remote] = {}
        self._began = time.monotonic()
        self._folder = tempfile.mkdtemp(prefix="turns-")
        self._name = uuid.uuid4().hex[:12]
        self._socket = f"{self._folder}/{self._name}"
        self._closing = ExitStack()

    def __enter__(self) -> _Stage:
        self._closing.enter_context(quietly())
        self._listener = self._closing.enter_context(socket.socket(socket.AF_UNIX))
        self._listener.bind(self._socket)
        self._listener.listen()
        self._listener.settimeout(0.1)
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        """Wait until the group's kernels have ended; after an error, end them."""
        for remote in self._remotes.values():
            remote.close()
        if kind not in (None, ComputesWhileWaiting):  # after that one, every kernel stops its server and ends
            end_kernels()
        for thread in self._threads.values():
            thread.join()
        self._closing.close()
        shutil.rmtree(self._folder, ignore_errors=True)

    def perform(self) -> list[PlannedRound]:
        """Measure the group; return the rounds left unfinished because their process was lost."""
        for planned in self._planned.values():
            self._start(planned)
        self._await(set(self._planned))
        names = list(self._remotes)
        sizes = {name: self._sizes(name) for name in names}
        group = [self._planned[name] for name in names]
        conductor = None
        if group:
            group_facts = {"group": self._name if len(group) > 1 else None, "n": len(group)}
            because = self._because if self._because or len(group) > 1 else "the others of its group did not start"
            conductor = Conductor(
                dict(self._remotes),
                score_of(self._params, self._store.workload(), group, sizes, self._chosen, self._seconds, self._seeds),
                group_facts | {"alone_because": because},
                np.random.default_rng([self._params.seed, group[0].index, group[0].position]),
                restart=self._restart,
                before_turns=partial(check_waiting, self._params, group),
            )
            conductor.conduct()
        return [p for p in self._planned.values() if not self._is_recorded(p, conductor.lost if conductor else {})]

    def _start(self, planned: PlannedRound) -> None:
        self._threads[planned.name] = thread = _Notebook(
            self._params, self._store, planned, self._socket, len(self._planned)
        )
        thread.start()

    def _await(self, names: set[str]) -> None:
        """Wait until each of these has reported that it is loaded, or its notebook has ended."""
        while waiting := {n for n in names if n not in self._remotes and self._threads[n].is_alive()}:
            try:
                connection, _ = self._listener.accept()
            except TimeoutError:
                continue
            connection.settimeout(None)
            lines = connection.makefile("rw", encoding="utf-8")
            hello = lines.readline()
            if hello and (name := json.loads(hello)["name"]) in waiting:
                self._remotes[name] = Remote(self._planned[name], connection, lines)

    def _restart(self, name: str, chunk: int) -> Remote | None:
        """Start a fresh process for a round lost before its first turn, without the chunk size that killed it."""
        if self._is_recorded(self._planned[name], {name: chunk}):
            return None
        del self._remotes[name]
        self._start(self._planned[name])
        self._await({name})
        return self._remotes.get(name)

    def _sizes(self, name: str) -> list[int]:
        """Return the chunk sizes that a round still has to measure."""
        draft = self._store.draft(name)
        if draft is None:
            return chunk_order(self._params, self._planned[name])
        return [cell.chunk_size for cell in draft.cells if cell.status == "not_run"]

    def _is_recorded(self, planned: PlannedRound, lost: Mapping[str, int]) -> bool:
        """Return whether a round is finished. If its process is lost, write what is known of the round."""
        name, store = planned.name, self._store
        if name in self._remotes:
            self._remotes[name].close()
        thread = self._threads[name]
        thread.join()
        if isinstance(thread.failure, OSError):
            raise thread.failure
        if store.round_path(name).is_file():
            return True
        error = str(thread.failure or "the notebook ended without a record")
        crashed = isinstance(thread.failure, NotebookFailed) and thread.failure.died
        seconds = time.monotonic() - self._began
        draft = store.draft(name)
        if draft is None:  # it ended before its first cell: another process would too
            store.write_round(lost_round(self._params, store, planned, error, seconds, crashed))
            return True
        draft = _after_death(draft, lost.get(name, 0), error, seconds, crashed)
        if any(cell.status == "not_run" for cell in draft.cells):
            store.write_draft(draft)
            return False
        store.write_round(draft)
        return True


class _Notebook(threading.Thread):
    """One execution of the rounds' notebook.

    Attributes:
        failure: the exception that ended it; None if it succeeded.
    """

    def __init__(self, params: Params, store: RunStore, planned: PlannedRound, conductor: str, n: int) -> None:
        super().__init__(name=planned.name)
        self.failure: Exception | None = None
        self._job = (
            store.notebook_path(f"{NOTEBOOK}.{planned.name}"),
            {"run_dir": str(store.folder.resolve()), **planned.model_dump(), "conductor": conductor},
            n * params.round_timeout_seconds,  # it waits for the turns of the others too
        )

    def run(self) -> None:
        """Execute the notebook, and keep any exception in `failure`."""
        output, parameters, timeout_seconds = self._job
        try:
            execute_notebook(NOTEBOOK, output, parameters, timeout_seconds)
        except NotebookFailed as failure:
            self.failure = NotebookFailed(redacted(str(failure)), failure.raised, failure.died)
            if failure.raised and failure.raised[0] == StorageFailed.__name__:
                reason, _, path = failure.raised[1].partition(": ")
                self.failure = StorageFailed(errno.EIO, reason, path)  # the next rounds would end like this one
        except Exception as failure:
            self.failure = failure


def _after_death(draft: Round, chunk: int, error: str, seconds: float, crashed: bool) -> Round:
    """Return the draft of a process that ended, with the cell that ended it marked as failed.

    Args:
        chunk: the size that was being measured; 0: unknown, then the first unmeasured size is blamed.
        seconds: since the round began, including the process's time after its last draft.
    """
    left = [cell.chunk_size for cell in draft.cells if cell.status == "not_run"]
    died_of = chunk if chunk in left else 0 if chunk else left[:1] and left[0]
    cells = [
        Cell(chunk_size=cell.chunk_size, status="failed", error=error, crashed=crashed)
        if cell.status == "not_run" and cell.chunk_size == died_of
        else cell
        for cell in draft.cells
    ]
    known = draft.model_dump(exclude={"sha256", "cells", "seconds", "finished_utc"})
    return Round(**known, cells=cells, seconds=seconds, finished_utc=utc_now())


def lost_round(
    params: Params, store: RunStore, planned: PlannedRound, error: str, seconds: float, crashed: bool = False
) -> Round:
    """Return a record for a round that wrote none: every cell failed, with the reason."""
    manifest = store.manifest()
    now = utc_now()
    return Round(
        run_id=manifest.run_id,
        **planned.model_dump(),
        started_utc=now,
        finished_utc=now,
        seconds=seconds,
        params_sha256=manifest.params_sha256,
        workload_sha256=manifest.workload_sha256,
        tries=store.earlier_tries(planned.name),
        cells=[
            Cell(chunk_size=size, status="failed", error=error, crashed=crashed)
            for size in chunk_order(params, planned)
        ],
        error=error,
    )
