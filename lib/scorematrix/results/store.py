"""The only code that reads or writes a run folder."""

from __future__ import annotations

import fcntl
import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

from pydantic import BaseModel

from scorematrix.checksum import content_sha256
from scorematrix.results.files import read_document, write_document, write_text
from scorematrix.results.journal import Entry, Event, contradiction, note, outcome_of, read_journal, tries_of
from scorematrix.results.schema import ROUND_VERSION, Manifest, Round, Try, differs
from scorematrix.results.target_records import Readiness
from scorematrix.wings import wing
from scorematrix.workload.workload import Workload

LOG_CHARACTERS = 200_000
"""Only this much of the end of a server's output is kept."""


class RunStore:
    """A run folder. Every file is written under a temporary name and renamed, so it is complete or absent."""

    def __init__(self, folder: Path | str) -> None:
        self.folder = Path(folder)

    # Reading.

    def manifest(self) -> Manifest:
        manifest = read_document(self.folder / "run.json", Manifest)
        if (found := content_sha256(manifest.params)) != manifest.params_sha256:
            raise ValueError(
                f"{self.folder.name}/run.json: its params hash to {found[:12]}..., not to "
                f"params_sha256={manifest.params_sha256[:12]}...; take the file from its source"
            )
        return manifest

    def workload(self) -> Workload:
        """Return the run's workload.

        Raises:
            ValueError: if it is damaged, or another one than the run's.
        """
        workload = read_document(self.folder / "workload.json", Workload)
        if self.exists() and workload.sha256 != (named := self.manifest().workload_sha256):
            raise ValueError(
                f"{self.folder.name}/workload.json: sha256={workload.sha256[:12]}... differs from run.json's "
                f"workload_sha256={named[:12]}...; it belongs to another run, move it away and rerun `scorematrix run`"
            )
        return workload

    def readiness(self) -> Readiness:
        return read_document(self.folder / "readiness.json", Readiness)

    def rounds(self) -> list[Round]:
        """Return all rounds, in their order of execution.

        Raises:
            ValueError: for a file that is truncated, edited, renamed, of a newer version, of another run or not of
                this run's plan, or that the run's journal contradicts.
        """
        folder, manifest = self.folder / "rounds", self.manifest()
        if folder.exists() and not folder.is_dir():
            raise ValueError(f"{folder} is not a folder; move it away and rerun `scorematrix run`")
        rounds, planned, journal = [], {planned.name: planned for planned in manifest.plan}, self.journal()
        merged = {entry.round for entry in journal if entry.event == "merged"}
        for path in sorted(folder.glob("*.json")):
            round_ = read_document(path, Round)
            name = f"{self.folder.name}/rounds/{path.name}"
            # Older files do not name the role.
            old_name = f"{round_.backend}.{round_.view}.{round_.target}.r{round_.index:02d}"
            if path.stem not in (round_.name, old_name if round_.schema_version < ROUND_VERSION else ""):
                raise ValueError(f"{name} contains round {round_.name}: a copied or renamed file; move it away")
            if round_.name not in planned:
                raise ValueError(f"{name} is not in the run's plan; move it away")
            self._check_own(round_, f"rounds/{round_.name}.json", manifest)
            if round_.run_id != manifest.run_id and round_.name not in merged:
                raise ValueError(
                    f"{name} was measured in run {round_.run_id}, not in {manifest.run_id}; move it away, or take it "
                    "in by `scorematrix report --merge`"
                )
            if (field := differs(planned[round_.name], round_)) is not None:
                raise ValueError(f"{name}: {field} differs from the run's plan; take the file from its source")
            if round_.name not in merged and (found := contradiction(journal, round_)) is not None:
                raise ValueError(f"{name} {found}")
            rounds.append(round_)
        return sorted(rounds, key=lambda r: r.position)

    def studies(self) -> list[Any]:
        """Return the studies of live servers, each a `servers.ServerStudy`; none if that wing was left out.

        Raises:
            ValueError: for a file that is truncated, edited or of another run's params.
        """
        if (servers := wing("servers")) is None:
            return []
        paths = sorted((self.folder / "studies").glob("*.json"))
        studies = [read_document(path, servers.ServerStudy) for path in paths]
        manifest = self.manifest()
        for study in studies:
            self._check_own(study, f"studies/{study.name}.json", manifest)
        return studies

    def round(self, name: str) -> Round:
        return read_document(self.round_path(name), Round)

    def round_path(self, name: str) -> Path:
        return self.folder / "rounds" / f"{name}.json"

    def notebook_path(self, name: str) -> Path:
        path = self.folder / "notebooks" / f"{name}.ipynb"
        path.parent.mkdir(parents=True, exist_ok=True)
        return path

    def log_path(self, name: str) -> Path:
        """Return the path for the output of a server that a round started."""
        return self.folder / "servers" / f"{name}.log"

    def redact_log(self, name: str, redact: Callable[[str], str]) -> None:
        """Rewrite a server's output, if there is any, without identifying details."""
        path = self.log_path(name)
        if path.is_file():
            write_text(path, redact(path.read_text("utf-8", errors="replace")[-LOG_CHARACTERS:]))

    def _check_own(self, of: Any, name: str, manifest: Manifest) -> None:
        for field in ("params_sha256", "workload_sha256"):
            ours, theirs = getattr(manifest, field), getattr(of, field)
            if ours != theirs:
                raise ValueError(
                    f"{self.folder.name}/{name}: {field}={theirs[:12]}... differs from the run's {ours[:12]}...; it "
                    "belongs to another run, remove it"
                )

    def journal(self) -> list[Entry]:
        """Return every start and end of a round in this folder, in order."""
        return read_journal(self.folder)

    def earlier_tries(self, name: str) -> list[Try]:
        """Return the tries of a round before the one that is running now."""
        return tries_of(self.journal(), name)

    def exists(self) -> bool:
        return (self.folder / "run.json").is_file()

    def has_workload(self) -> bool:
        return (self.folder / "workload.json").is_file()

    # Writing.

    def write_manifest(self, manifest: Manifest) -> None:
        write_document(self.folder / "run.json", manifest, indent=1)

    def write_workload(self, workload: Workload) -> None:
        write_document(self.folder / "workload.json", workload)

    def write_readiness(self, readiness: Readiness) -> None:
        write_document(self.folder / "readiness.json", readiness, indent=1)

    def write_study(self, study: Any) -> None:
        """Write the study of a server; it replaces an older one."""
        write_document(self.folder / "studies" / f"{study.name}.json", study)

    def write_round(self, round_: Round) -> None:
        write_document(self.round_path(round_.name), round_)
        self._drop_draft(round_.name)

    def note(self, event: Event, *names: str) -> None:
        """Record an event of rounds in the journal."""
        for name in names:
            note(self.folder, event, name)

    def note_end(self, round_: Round) -> None:
        """Record in the journal how a finished round ended."""
        self.note(outcome_of(round_), round_.name)

    # Drafts: measurements of an unfinished round outlive the process that makes them.

    def write_draft(self, round_: Round) -> None:
        write_document(self._draft_path(round_.name), round_)

    def draft(self, name: str) -> Round | None:
        path = self._draft_path(name)
        return read_document(path, Round) if path.is_file() else None

    def drop_round(self, name: str) -> None:
        """Delete a round and its draft, so that it is measured again."""
        self.round_path(name).unlink(missing_ok=True)
        self._drop_draft(name)

    def _drop_draft(self, name: str) -> None:
        path = self._draft_path(name)
        path.unlink(missing_ok=True)
        with suppress(OSError):  # no such folder, or another draft is in it
            path.parent.rmdir()

    def _draft_path(self, name: str) -> Path:
        return self.folder / "drafts" / f"{name}.json"

    def write_document(self, name: str, document: BaseModel) -> Path:
        """Write a computed document next to the raw ones, such as comparison.json."""
        return write_document(self.folder / name, document, indent=1)

    def write_text(self, name: str, text: str) -> Path:
        """Write a rendered text about this run and another one, such as change_since_OLD.md."""
        return write_text(self.folder / name, text)

    def write_summary(self, ending: str, text: str, partial: bool) -> Path:
        """Write a summary such as `report.md`, or `report-PARTIAL.md` if `partial`, and delete the other one."""
        names = [f"report-PARTIAL.{ending}", f"report.{ending}"]
        written = write_text(self.folder / names[not partial], text)
        (self.folder / names[partial]).unlink(missing_ok=True)
        return written

    def stamps(self) -> dict[str, int]:
        """Return the modification times of files that change during a run, by path in the folder. Cheap to poll."""
        stamps = {}
        for path in (
            *self.folder.glob("readiness.json"),
            *self.folder.glob("rounds/*.json"),
            *self.folder.glob("drafts/*.json"),
        ):
            with suppress(FileNotFoundError):  # a draft is deleted when its round is complete
                stamps[path.relative_to(self.folder).as_posix()] = path.stat().st_mtime_ns
        return stamps

    def in_use(self) -> bool:
        """Return whether a process is filling the folder now."""
        try:
            with open(self.folder / ".lock") as handle:
                fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except FileNotFoundError:
            return False
        except BlockingIOError:
            return True
        return False

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Lock the folder: only one process fills it at a time. The operating system drops a killed process's lock.

        Raises:
            RunInUse: if another process has the lock.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        with open(self.folder / ".lock", "a") as handle:
            if not _locked(handle):
                who = (self.folder / ".lock").read_text("utf-8").strip()
                raise RunInUse(
                    f"run folder {self.folder} is being filled by another process{f', {who}' if who else ''}; "
                    "wait for it to end, or choose another --run-id"
                )
            with suppress(OSError):  # on a full disk our pid stays unknown, and the sweep may free space
                handle.truncate(0)
                handle.write(f"pid {os.getpid()}\n")
                handle.flush()
            self._sweep()
            yield

    def _sweep(self) -> None:
        """Remove temporary files and drafts of killed processes. Safe because only the lock's owner writes."""
        shutil.rmtree(self.folder / "drafts", ignore_errors=True)
        for path in self.folder.rglob(".*"):
            if path.is_file() and path.name != ".lock":
                path.unlink(missing_ok=True)


def _locked(handle: IO) -> bool:
    """Take the lock. Try twice, because `in_use` also takes it for a moment."""
    for wait_seconds in (0.1, 0.0):
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            time.sleep(wait_seconds)
        else:
            return True
    return False


class RunInUse(ValueError):
    """Another process is filling the run folder."""
