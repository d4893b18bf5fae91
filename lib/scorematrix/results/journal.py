"""`journal.jsonl` of a run folder: one line per start and end of a round, only ever appended."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from pydantic import ValidationError

from scorematrix.results.cells import Part
from scorematrix.results.files import StorageFailed
from scorematrix.results.schema import Round, Try
from scorematrix.results.times import utc_now

NAME = "journal.jsonl"
Event = Literal["begun", "sound", "failed", "crashed", "lost", "merged"]
"""sound: every cell was measured. failed: one was not. crashed: a process ended by itself, or memory ran out. lost: its
node was lost. merged: copied from another run."""


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
        elif entry.event in ("sound", "failed", "crashed"):
            tries.append(Try(begun_utc=begun or entry.at_utc, outcome=entry.event))
            begun = None
        elif entry.event == "lost":  # a round that its group had already recorded is lost too
            if begun is None and tries:
                tries[-1] = tries[-1].model_copy(update={"outcome": "lost"})
            else:
                tries.append(Try(begun_utc=begun or entry.at_utc, outcome="lost"))
            begun = None
    return tries
