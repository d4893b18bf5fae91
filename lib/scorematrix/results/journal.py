"""`journal.jsonl` of a run folder: one line per start and end of a round, only ever appended."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Literal

from pydantic import ValidationError

from scorematrix.results.cells import Part
from scorematrix.results.files import StorageFailed, utc_now
from scorematrix.results.schema import Round, Try

NAME = "journal.jsonl"
Event = Literal["begun", "sound", "failed", "crashed", "lost", "merged"]
"""sound: every cell was measured. failed: one was not. crashed: a process ended by itself, or memory ran out. lost: its
node was lost. merged: copied from another run."""


ENDS = ("sound", "failed", "crashed")
APART = 300.0
"""The clocks of two machines of a cluster may differ by this many seconds."""


class Entry(Part):
    """One line of the journal."""

    at_utc: str
    round: str
    event: Event


def note(folder: Path, event: Event, name: str) -> None:
    """Append a line.

    Raises:
        StorageFailed: if the write fails.
    """
    path = folder / NAME
    line = Entry(at_utc=utc_now(), round=name, event=event).model_dump_json() + "\n"
    try:
        handle = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o644)
        try:
            size = os.fstat(handle).st_size
            complete = not size or os.pread(handle, 1, size - 1) == b"\n"  # else a full disk cut off the last line
            os.write(handle, (line if complete else "\n" + line).encode())
            os.fsync(handle)
        finally:
            os.close(handle)
    except OSError as error:
        raise StorageFailed(error.errno, error.strerror, str(path)) from None


def read_journal(folder: Path) -> list[Entry]:
    """Return all complete lines, in order; none for a run that is older than the journal."""
    path, entries = folder / NAME, []
    for line in path.read_text("utf-8", errors="replace").splitlines() if path.is_file() else ():
        try:
            entries.append(Entry.model_validate(json.loads(line)))
        except (ValueError, ValidationError):
            continue  # a truncated line
    return entries


def outcome_of(round_: Round) -> Event:
    """Return how a recorded round ended."""
    if all(cell.status == "ok" for cell in round_.cells):
        return "sound"
    return "crashed" if any(cell.crashed for cell in round_.cells) else "failed"


def tries_of(entries: Sequence[Entry], name: str) -> list[Try]:
    """Return every try of a round that ended or was abandoned, without the one that is running now."""
    tries: list[Try] = []
    begun: str | None = None
    for entry in entries:
        if entry.round != name:
            continue
        if entry.event == "begun":
            if begun is not None:
                tries.append(Try(begun_utc=begun, outcome="unfinished"))
            begun = entry.at_utc
        elif entry.event in ENDS:
            tries.append(Try(begun_utc=begun or entry.at_utc, outcome=entry.event))
            begun = None
        elif entry.event == "lost":  # a round that its group had already recorded is lost too
            if begun is None and tries:
                tries[-1] = tries[-1].model_copy(update={"outcome": "lost"})
            else:
                tries.append(Try(begun_utc=begun or entry.at_utc, outcome="lost"))
            begun = None
    return tries


def contradiction(entries: Sequence[Entry], round_: Round) -> str | None:
    """Return what the journal of the round's own run contradicts in its record; None: nothing, or it has no line of it.

    A round that was recorded right before a kill has no last line.
    """
    of_round = [entry for entry in entries if entry.round == round_.name]
    tries = tries_of(of_round, round_.name)
    if not of_round:
        return None
    if len(round_.tries) < len(tries) - 1:
        return "is an earlier try of the round than the run's last; put the last one back"
    if round_.tries != tries[: len(round_.tries)]:
        return (
            f"has {len(round_.tries)} earlier tries, which are not those of {NAME}; take both files from their source"
        )
    last = of_round[-1]
    has_ended = len(tries) > len(round_.tries) and last.event in ENDS
    if has_ended and last.event != outcome_of(round_):
        return f"is {outcome_of(round_)}, but {NAME} says {last.event}; take both files from their source"
    if round_.clock_was_set_back:  # no stamp can be compared; a warning says so
        return None
    begun = next((entry.at_utc for entry in reversed(of_round) if entry.event == "begun"), None)
    is_of_last = has_ended or len(tries) == len(round_.tries)  # else the journal's last line begins another try
    if begun and is_of_last and _seconds(begun, round_.started_utc) < -APART:
        return f"has started_utc={round_.started_utc}, but {NAME} says {begun}; take both files from their source"
    if has_ended and _seconds(round_.finished_utc, last.at_utc) < -APART:
        return (
            f"has finished_utc={round_.finished_utc}, but {NAME} says {last.at_utc}; take both files from their source"
        )
    return None


def _seconds(since: str, until: str) -> float:
    return (datetime.fromisoformat(until) - datetime.fromisoformat(since)).total_seconds()
