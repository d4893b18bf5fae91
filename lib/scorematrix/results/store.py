"""The only code that reads or writes a run folder."""

from __future__ import annotations

import fcntl
import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from pydantic import BaseModel

from scorematrix.results.files import read_document, write_document, write_text
from scorematrix.results.journal import Entry, Event, note, outcome_of, read_journal, tries_of
from scorematrix.results.manifest import Manifest
from scorematrix.results.schema import Round, Try
from scorematrix.results.studies import ServerStudy
from scorematrix.results.targets import Readiness
from scorematrix.workload.workload import Workload

OUTPUTS = Path(__file__).resolve().parents[3] / "outputs"
"""Of the clone that this is run from."""
LOG_CHARACTERS = 200_000
"""What is kept of a server's output: its end."""


class RunStore:
    """A run folder. Every file is written to a temporary name and renamed, so it is whole or absent."""

    def __init__(self, folder: Path | str) -> None:
        self.folder = Path(folder)

    # What a run holds.

    def manifest(self) -> Manifest:
        return read_document(self.folder / "run.json", Manifest)

    def workload(self) -> Workload:
        return read_document(self.folder / "workload.json", Workload)

    def readiness(self) -> Readiness:
        return read_document(self.folder / "readiness.json", Readiness)

    def rounds(self) -> list[Round]:
        """All rounds, in their order of execution.

        Raises:
            ValueError: for a file that is truncated, edited, of a newer version, or of another run's params.
        """
        rounds = [read_document(path, Round) for path in sorted((self.folder / "rounds").glob("*.json"))]
        manifest = self.manifest()
        for round_ in rounds:
            self._check_own(round_, f"rounds/{round_.name}.json", manifest)
        return sorted(rounds, key=lambda r: r.position)

    def studies(self) -> list[ServerStudy]:
        """What was found of live servers beside their rounds.

        Raises:
            ValueError: for a file that is truncated, edited or of another run's params.
        """
        studies = [read_document(path, ServerStudy) for path in sorted((self.folder / "studies").glob("*.json"))]
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
        """Where the output of a server goes that a round started."""
        return self.folder / "servers" / f"{name}.log"

    def redact_log(self, name: str, redact: Callable[[str], str]) -> None:
        """Rewrite a server's output, if there is any, without what gives somebody away."""
        path = self.log_path(name)
        if path.is_file():
            write_text(path, redact(path.read_text("utf-8", errors="replace")[-LOG_CHARACTERS:]))

    def _check_own(self, of: Round | ServerStudy, name: str, manifest: Manifest) -> None:
        for field in ("params_sha256", "workload_sha256"):
            ours, theirs = getattr(manifest, field), getattr(of, field)
            if ours != theirs:
                raise ValueError(
                    f"{self.folder.name}/{name}: {field}={theirs[:12]}... differs from the run's {ours[:12]}...; it "
                    "belongs to another run, take it out"
                )

    def journal(self) -> list[Entry]:
        """Every start and end of a round that this folder saw, in order."""
        return read_journal(self.folder)

    def earlier_tries(self, name: str) -> list[Try]:
        """Those of a round that were before the one that goes on now."""
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

    def write_study(self, study: ServerStudy) -> None:
        """Keep what was found of a server; a newer study takes the place of an older one."""
        write_document(self.folder / "studies" / f"{study.name}.json", study)

    def write_round(self, round_: Round) -> None:
        write_document(self.round_path(round_.name), round_)
        self._drop_draft(round_.name)

    def note(self, event: Event, *names: str) -> None:
        """Write into the journal what became of rounds."""
        for name in names:
            note(self.folder, event, name)

    def note_end(self, round_: Round) -> None:
        """The same of a round that is recorded."""
        self.note(outcome_of(round_), round_.name)

    # A round in the making: what is measured of it outlives the process that measures.

    def write_draft(self, round_: Round) -> None:
        write_document(self._draft_path(round_.name), round_)

    def draft(self, name: str) -> Round | None:
        path = self._draft_path(name)
        return read_document(path, Round) if path.is_file() else None

    def drop_round(self, name: str) -> None:
        """Make room for a round to be measured anew."""
        self.round_path(name).unlink(missing_ok=True)
        self._drop_draft(name)

    def _drop_draft(self, name: str) -> None:
        path = self._draft_path(name)
        path.unlink(missing_ok=True)
        with suppress(OSError):  # there is none, or another draft is in it
            path.parent.rmdir()

    def _draft_path(self, name: str) -> Path:
        return self.folder / "drafts" / f"{name}.json"

    def write_document(self, name: str, document: BaseModel) -> Path:
        """A computed document beside the raw ones, comparison.json say."""
        return write_document(self.folder / name, document, indent=1)

    def write_text(self, name: str, text: str) -> Path:
        """A rendered text that is of this run and another one, change_since_OLD.md say."""
        return write_text(self.folder / name, text)

    def write_summary(self, ending: str, text: str, partial: bool) -> Path:
        """A rendered summary: `report.md` say, or `report-PARTIAL.md` while something is missing; one of them stays."""
        names = [f"report-PARTIAL.{ending}", f"report.{ending}"]
        written = write_text(self.folder / names[not partial], text)
        (self.folder / names[partial]).unlink(missing_ok=True)
        return written

    def stamps(self) -> dict[str, int]:
        """When what changes in a run that goes on was last written, by its path in the folder: cheap to ask often."""
        found = {}
        for path in (
            *self.folder.glob("readiness.json"),
            *self.folder.glob("rounds/*.json"),
            *self.folder.glob("drafts/*.json"),
        ):
            with suppress(FileNotFoundError):  # a draft goes when its round is whole
                found[path.relative_to(self.folder).as_posix()] = path.stat().st_mtime_ns
        return found

    def in_use(self) -> bool:
        """Whether a process fills the folder now."""
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
        """Only one process fills a run folder at a time; the operating system drops the lock of a killed one.

        Raises:
            RunInUse: where another process holds it.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        with open(self.folder / ".lock", "a") as handle:
            if not _locked(handle):
                who = (self.folder / ".lock").read_text("utf-8").strip()
                raise RunInUse(
                    f"run folder {self.folder} is being filled by another process{f', {who}' if who else ''}; "
                    "wait for it to end, or choose another --run-id"
                )
            with suppress(OSError):  # a full disk: nobody is told who we are, and we may still free some of it
                handle.truncate(0)
                handle.write(f"pid {os.getpid()}\n")
                handle.flush()
            self._sweep()
            yield

    def _sweep(self) -> None:
        """Remove temporary files and drafts of killed processes: whoever holds the lock is the only one to write."""
        shutil.rmtree(self.folder / "drafts", ignore_errors=True)
        for path in self.folder.rglob(".*"):
            if path.is_file() and path.name != ".lock":
                path.unlink(missing_ok=True)


def _locked(handle: IO) -> bool:
    """Take the lock; who only asks whether a run is in use holds it for a moment, hence the second try."""
    for wait_seconds in (0.1, 0.0):
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            time.sleep(wait_seconds)
        else:
            return True
    return False


class RunInUse(ValueError):
    """Two processes would fill one run folder."""


class NoRunYet(ValueError):
    """Nothing has been measured here."""


def find_run(run: str | Path = "", outputs: Path | str = "outputs") -> RunStore:
    """Open a run by its folder, by its id under `outputs/runs`, or by its name under `outputs/reference`.

    Unless another folder is named, the clone's outputs are searched too: a notebook finds a run from anywhere.

    Args:
        run: empty takes the newest run.

    Raises:
        NoRunYet: where the newest is asked for and there is none.
        ValueError: naming the run, where it was looked for, and what is there.
    """
    places = [Path(outputs), *([OUTPUTS] if str(outputs) == "outputs" else [])]
    newest = [store for place in places for store in newest_runs(place)]
    if not str(run):
        if newest:
            return newest[0]
        raise NoRunYet(f"no run is recorded under {outputs}/runs yet; `make report` makes one")
    for folder in (Path(run), *(place / kind / str(run) for place in places for kind in ("runs", "reference"))):
        if (folder / "run.json").is_file():
            return RunStore(folder)
    known = sorted(store.folder.name for store in newest)
    raise ValueError(
        f"run={str(run)!r} is neither a run folder nor a run id under {outputs}/runs; "
        f"known: {', '.join(known) or 'none yet, start one with `scorematrix run`'}"
    )


def newest_runs(outputs: Path | str) -> list[RunStore]:
    """List the runs under `outputs/runs`, the newest first."""
    paths = sorted(Path(outputs).glob("runs/*/run.json"), key=lambda path: path.stat().st_mtime, reverse=True)
    return [RunStore(path.parent) for path in paths]
