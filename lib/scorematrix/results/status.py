"""Where a run is that goes on: rounds done, the cell that is measured now, time left, the last figure. No judgement."""

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
from scorematrix.results.manifest import Manifest
from scorematrix.results.schema import SIDES, PlannedRound, Round
from scorematrix.results.store import RunStore
from scorematrix.results.targets import Readiness

Document = TypeVar("Document", Readiness, Round)
Kind = tuple[str, str, str, str]
READINESS = "readiness.json"
LONGEST_START_SECONDS = 60
"""A longer gap between two rounds is a pause of the run, not a process that starts."""


@dataclass(frozen=True)
class LastFigure:
    """What the newest round measured at its fastest chunk size, and the other framework's newest at the same.

    Attributes:
        items_per_second: None where no cell of the round has a figure; `trouble` says why.
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
    """A moment of a run.

    Attributes:
        total: rounds that this machine can measure; 0 while it has not been looked at.
        current: the round that is next or now; None when none is left.
        measuring: its chunk size that is measured now; None while it loads and compiles, or has not begun.
        together: backends whose rounds are measured in turns with it, its own included; none where it is alone.
        seconds_left: of rounds whose kind has been measured before; None while no such kind is left.
        unknown_rounds: rounds left that nothing is known of: none of their kind has been measured.
        may_end_early: whether the run may be settled before its last round.
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
        """The same where so many rounds are measured at a time, each on a machine of its own."""
        return self if self.seconds_left is None else replace(self, seconds_left=self.seconds_left / n)


def run_status(
    manifest: Manifest,
    readiness: Readiness | None,
    rounds: Collection[Round],
    drafts: Mapping[str, Round],
    now: datetime,
) -> RunStatus:
    """Where the run is, from its documents alone.

    Args:
        drafts: rounds in the making, by name.
    """
    states = {(s.target, s.backend): s.state for s in readiness.states} if readiness else {}
    todo = [p for p in manifest.plan if states.get((p.target, p.backend)) == "ready"]
    recorded = {r.name for r in rounds}
    left = [p for p in todo if p.name not in recorded]
    current = left[0] if left else None
    draft = drafts.get(current.name) if current else None
    partners = [d for d in drafts.values() if draft and draft.group and d.group == draft.group]
    pending = [cell.chunk_size for cell in draft.cells if cell.status == "not_run"] if draft else []
    known = seconds_by_kind(rounds)
    told = [known[_kind(p)] for p in left if _kind(p) in known]
    gone = min((now - _time(draft.started_utc)).total_seconds(), known.get(_kind(draft), 0.0)) if draft else 0.0
    return RunStatus(
        done=len(todo) - len(left),
        total=len(todo),
        current=current,
        measuring=pending[0] if pending else None,
        cells_done=len(draft.cells) - len(pending) if draft else 0,
        cells=len(draft.cells) if draft else 0,
        seconds_left=max(sum(told) - gone, 0.0) if told else None,
        unknown_rounds=len(left) - len(told),
        may_end_early=manifest.params.get("max_rounds") is not None,
        together=tuple(d.backend for d in partners),
        last=_last_figure(sorted(rounds, key=lambda r: (r.finished_utc, r.position))),
    )


def seconds_by_kind(rounds: Collection[Round]) -> dict[Kind, float]:
    """Median seconds that a round takes by (backend, view, target, role), the start of its process included."""
    in_order = sorted((r for r in rounds if r.error is None), key=lambda r: r.started_utc)
    gaps = [(_time(b.started_utc) - _time(a.finished_utc)).total_seconds() for a, b in itertools.pairwise(in_order)]
    start = median([gap for gap in gaps if 0 <= gap <= LONGEST_START_SECONDS] or [0.0])
    together = Counter(r.group for r in in_order if r.group)
    found: dict[Kind, list[float]] = {}
    for r in in_order:  # rounds that are measured in turns take their time together
        found.setdefault(_kind(r), []).append((r.taken_seconds + start) / (together[r.group] if r.group else 1))
    return {kind: median(seconds) for kind, seconds in found.items()}


class RunFollower:
    """Reads of a run folder only what has changed since it last looked."""

    def __init__(self, store: RunStore) -> None:
        # Papermill changes this process's folder while a round goes on.
        self._store = RunStore(store.folder.resolve())
        self._manifest = store.manifest()
        self._readiness: dict[str, tuple[int, Readiness]] = {}
        self._rounds: dict[str, tuple[int, Round]] = {}

    def look(self, now: datetime | None = None) -> RunStatus:
        """The run's status now."""
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
        """The documents with these stamps; those that are known with the same stamp are not read again."""
        found = {name: one for name, one in known.items() if stamps.get(name) == one[0]}
        for name, stamp in stamps.items():
            if name not in found:
                with suppress(ValueError):  # gone since, or damaged: whoever judges the run says so
                    found[name] = stamp, read_document(self._store.folder / name, kind)
        return found


def _last_figure(rounds: Sequence[Round]) -> LastFigure | None:
    if not rounds:
        return None
    last = rounds[-1]
    own = {c.name: c.items_per_second for c in cell_figures(last) if c.items_per_second is not None}
    figure = partial(LastFigure, round_name=last.name, backend=last.backend, view=last.view)
    if not own:
        trouble = next((f"{c.status}: {c.error}" for c in last.cells if c.status != "ok"), "no call was timed")
        return figure(chunk=None, items_per_second=None, trouble=trouble)
    other = _other_side(last, rounds)
    theirs = {c.name: c.items_per_second for c in cell_figures(other) if c.items_per_second} if other else {}
    chunk = max([name for name in own if name in theirs] or own, key=own.__getitem__)
    if other is None or chunk not in theirs:
        return figure(chunk=chunk, items_per_second=own[chunk])
    return figure(
        chunk=chunk,
        items_per_second=own[chunk],
        other=other.backend,
        other_items_per_second=theirs[chunk],
    )


def _other_side(last: Round, rounds: Sequence[Round]) -> Round | None:
    """The other framework's newest round of the same kind, on the same target where it has one."""
    if last.backend not in SIDES or last.role not in ("tuning", "confirm"):
        return None
    theirs = [r for r in rounds if SIDES.get(r.backend, SIDES[last.backend]) != SIDES[last.backend]]
    theirs = [r for r in theirs if (r.view, r.role) == (last.view, last.role)]
    return next((r for r in reversed(theirs) if r.target == last.target), theirs[-1] if theirs else None)


def _kind(of: Round | PlannedRound) -> Kind:
    return of.backend, of.view, of.target, of.role


def _time(utc: str) -> datetime:
    return datetime.fromisoformat(utc)
