"""Progress of a run: rounds done, the cell being measured, time left, the last figure. No verdict."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from statistics import median
from typing import TypeVar

from scorematrix.results.figures import cell_figures
from scorematrix.results.files import read_document
from scorematrix.results.schema import SIDES, Manifest, PlannedRound, Round
from scorematrix.results.store import RunStore
from scorematrix.results.target_records import Readiness

Document = TypeVar("Document", Readiness, Round)
Kind = tuple[str, str, str, str]
READINESS = "readiness.json"
LONGEST_START_SECONDS = 60
"""A longer gap between two rounds is a pause of the run, not the start of a process."""


@dataclass(frozen=True)
class LastFigure:
    """Rate of the newest round at its fastest chunk size, and of the other framework's newest round at the same size.

    Attributes:
        items_per_second: None if no cell of the round has a figure; `trouble` says why.
    """

    round_name: str
    backend: str
    view: str
    chunk: str | None
    items_per_second: float | None
    trouble: str | None = None
    other: str | None = None
    other_items_per_second: float | None = None


@dataclass(frozen=True)
class RunStatus:
    """Progress of a run at one moment.

    Attributes:
        total: rounds that this machine can measure; 0 until readiness is recorded.
        current: the running or next round; None when none is left.
        measuring: the chunk size being measured; None while the round loads and compiles, or before it starts.
        together: backends measured in turns with the current round, itself included; empty if it runs alone.
        seconds_left: for the remaining rounds of kinds already measured; None if there are none.
        unknown_rounds: remaining rounds of kinds not yet measured.
        may_end_early: whether the run may be decided before its last round.
    """

    done: int
    total: int
    current: PlannedRound | None
    measuring: int | None
    cells_done: int
    cells: int
    seconds_left: float | None
    unknown_rounds: int
    may_end_early: bool
    last: LastFigure | None
    together: tuple[str, ...] = ()

    def side_by_side(self, n: int) -> RunStatus:
        """Return the status for `n` rounds at a time, each on a separate machine."""
        return self if self.seconds_left is None else replace(self, seconds_left=self.seconds_left / n)


def one_reference(planned: Sequence[PlannedRound], recorded: Collection[str]) -> list[PlannedRound]:
    """Return planned rounds with one reference at most: the first that is recorded, else the first.

    Args:
        planned: rounds that can run.
        recorded: names of recorded rounds.
    """
    references = [p.name for p in planned if p.role == "reference"]
    needed = [*(name for name in references if name in recorded), *references][:1]
    return [p for p in planned if p.role != "reference" or p.name in needed]


def runnable(plan: Sequence[PlannedRound], readiness: Readiness, recorded: Collection[str]) -> list[PlannedRound]:
    """Return the planned rounds that this machine can run now, with one reference at most; see `one_reference`."""
    ready = {(s.target, s.backend) for s in readiness.states if s.state == "ready"}
    return one_reference([p for p in plan if (p.target, p.backend) in ready], recorded)


def run_status(
    manifest: Manifest,
    readiness: Readiness | None,
    rounds: Collection[Round],
    drafts: Mapping[str, Round],
    now: datetime,
) -> RunStatus:
    """Return a run's progress from its documents alone.

    Args:
        drafts: unfinished rounds, by name.
    """
    recorded = {r.name for r in rounds}
    todo = runnable(manifest.plan, readiness, recorded) if readiness else []
    left = [p for p in todo if p.name not in recorded]
    current = left[0] if left else None
    draft = drafts.get(current.name) if current else None
    partners = [d for d in drafts.values() if draft and draft.group and d.group == draft.group]
    pending = [cell.chunk_size for cell in draft.cells if cell.status == "not_run"] if draft else []
    known = seconds_by_kind(rounds)
    estimates = [known[_kind(p)] for p in left if _kind(p) in known]
    gone = min((now - _time(draft.started_utc)).total_seconds(), known.get(_kind(draft), 0.0)) if draft else 0.0
    return RunStatus(
        done=len(todo) - len(left),
        total=len(todo),
        current=current,
        measuring=pending[0] if pending else None,
        cells_done=len(draft.cells) - len(pending) if draft else 0,
        cells=len(draft.cells) if draft else 0,
        seconds_left=max(sum(estimates) - gone, 0.0) if estimates else None,
        unknown_rounds=len(left) - len(estimates),
        may_end_early=manifest.params.get("max_rounds") is not None,
        together=tuple(d.backend for d in partners),
        last=_last_figure(sorted(rounds, key=lambda r: (r.finished_utc, r.position))),
    )


def seconds_by_kind(rounds: Collection[Round]) -> dict[Kind, float]:
    """Return median seconds per round by (backend, view, target, role), process start included."""
    in_order = sorted((r for r in rounds if r.error is None), key=lambda r: r.started_utc)
    gaps = [(_time(b.started_utc) - _time(a.finished_utc)).total_seconds() for a, b in itertools.pairwise(in_order)]
    start = median([gap for gap in gaps if 0 <= gap <= LONGEST_START_SECONDS] or [0.0])
    together = Counter(r.group for r in in_order if r.group)
    durations: dict[Kind, list[float]] = {}
    for r in in_order:  # rounds of a group share the time in which they take turns
        durations.setdefault(_kind(r), []).append((r.taken_seconds + start) / (together[r.group] if r.group else 1))
    return {kind: median(seconds) for kind, seconds in durations.items()}


class RunFollower:
    """Follow a run folder, reading only the files that changed since the last look."""

    def __init__(self, store: RunStore) -> None:
        # Papermill changes this process's working directory while a round runs.
        self._store = RunStore(store.folder.resolve())
        self._manifest = store.manifest()
        self._readiness: dict[str, tuple[int, Readiness]] = {}
        self._rounds: dict[str, tuple[int, Round]] = {}

    def look(self, now: datetime | None = None) -> RunStatus:
        """Return the run's status now."""
        stamps = self._store.stamps()
        ready = {name: stamps.pop(name) for name in (READINESS,) if name in stamps}
        self._readiness = self._read(self._readiness, ready, Readiness)
        self._rounds = self._read(self._rounds, stamps, Round)
        _, readiness = self._readiness.get(READINESS, (0, None))
        rounds = [round_ for name, (_, round_) in self._rounds.items() if name.startswith("rounds/")]
        drafts = {round_.name: round_ for name, (_, round_) in self._rounds.items() if name.startswith("drafts/")}
        return run_status(self._manifest, readiness, rounds, drafts, now or datetime.now(UTC))

    def _read(
        self, known: Mapping[str, tuple[int, Document]], stamps: Mapping[str, int], kind: type[Document]
    ) -> dict[str, tuple[int, Document]]:
        """Return the documents with these stamps; documents known with the same stamp are not read again."""
        documents = {name: one for name, one in known.items() if stamps.get(name) == one[0]}
        for name, stamp in stamps.items():
            if name not in documents:
                with suppress(ValueError):  # deleted since, or damaged: judging the run reports it
                    documents[name] = stamp, read_document(self._store.folder / name, kind)
        return documents


def _last_figure(rounds: Sequence[Round]) -> LastFigure | None:
    if not rounds:
        return None
    last = rounds[-1]
    rates = {c.name: c.items_per_second for c in cell_figures(last) if c.items_per_second is not None}
    figure = partial(LastFigure, round_name=last.name, backend=last.backend, view=last.view)
    if not rates:
        trouble = next((f"{c.status}: {c.error}" for c in last.cells if c.status != "ok"), "no call was timed")
        return figure(chunk=None, items_per_second=None, trouble=trouble)
    other = _other_side(last, rounds)
    theirs = {c.name: c.items_per_second for c in cell_figures(other) if c.items_per_second} if other else {}
    chunk = max([name for name in rates if name in theirs] or rates, key=rates.__getitem__)
    if other is None or chunk not in theirs:
        return figure(chunk=chunk, items_per_second=rates[chunk])
    return figure(
        chunk=chunk,
        items_per_second=rates[chunk],
        other=other.backend,
        other_items_per_second=theirs[chunk],
    )


def _other_side(last: Round, rounds: Sequence[Round]) -> Round | None:
    """Return the other framework's newest round of the same view and role, on the same target if it has one."""
    if last.backend not in SIDES or last.role not in ("tuning", "confirm"):
        return None
    theirs = [r for r in rounds if SIDES.get(r.backend, SIDES[last.backend]) != SIDES[last.backend]]
    theirs = [r for r in theirs if (r.view, r.role) == (last.view, last.role)]
    return next((r for r in reversed(theirs) if r.target == last.target), theirs[-1] if theirs else None)


def _kind(of: Round | PlannedRound) -> Kind:
    return of.backend, of.view, of.target, of.role


def _time(utc: str) -> datetime:
    return datetime.fromisoformat(utc)
