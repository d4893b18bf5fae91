"""The only code that reads or writes a run folder."""

from __future__ import annotations

import fcntl
import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ValidationError

from scorematrix.results.schema import SCHEMA_VERSION, Manifest, Readiness, Round
from scorematrix.workload.workload import Workload

Document = TypeVar("Document", bound=BaseModel)


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
            for field in ("params_sha256", "workload_sha256"):
                ours, theirs = getattr(manifest, field), getattr(round_, field)
                if ours != theirs:
                    raise ValueError(
                        f"{self.folder.name}/rounds/{round_.name}.json: {field}={theirs[:12]}... differs "
                        f"from the run's {ours[:12]}...; it belongs to another run, take it out"
                    )
        return sorted(rounds, key=lambda r: r.position)

    def round(self, name: str) -> Round:
        return read_document(self.round_path(name), Round)

    def round_path(self, name: str) -> Path:
        return self.folder / "rounds" / f"{name}.json"

    def notebook_path(self, name: str) -> Path:
        path = self.folder / "notebooks" / f"{name}.ipynb"
        path.parent.mkdir(parents=True, exist_ok=True)
        return path

    def exists(self) -> bool:
        return (self.folder / "run.json").is_file()

    # Writing.

    def write_manifest(self, manifest: Manifest) -> None:
        write_document(self.folder / "run.json", manifest, indent=1)

    def write_workload(self, workload: Workload) -> None:
        write_document(self.folder / "workload.json", workload)

    def write_readiness(self, readiness: Readiness) -> None:
        write_document(self.folder / "readiness.json", readiness, indent=1)

    def write_round(self, round_: Round) -> None:
        write_document(self.round_path(round_.name), round_)

    def write_document(self, name: str, document: BaseModel) -> Path:
        """A computed document beside the raw ones, comparison.json say."""
        return write_document(self.folder / name, document, indent=1)

    def write_text(self, name: str, text: str) -> Path:
        """A rendered summary, report.md say."""
        return write_text(self.folder / name, text)

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Only one process fills a run folder at a time; the operating system drops the lock of a killed one.

        Raises:
            RunInUse: where another process holds it.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        with open(self.folder / ".lock", "a") as handle:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise RunInUse(
                    f"run folder {self.folder} is being filled by another process; "
                    "wait for it to end, or choose another --run-id"
                ) from None
            self._sweep()
            yield

    def _sweep(self) -> None:
        """Remove the temporary files of killed processes; whoever holds the lock is the only one to write."""
        for path in self.folder.rglob(".*"):
            if path.is_file() and path.name != ".lock":
                path.unlink(missing_ok=True)


class RunInUse(ValueError):
    """Two processes would fill one run folder."""


def open_run(run: str | Path, outputs: Path | str = "outputs") -> RunStore:
    """The store of a run named by its folder or by its id under `outputs/runs`.

    Raises:
        ValueError: naming the run and where it was looked for.
    """
    for folder in (Path(run), Path(outputs) / "runs" / str(run)):
        if (folder / "run.json").is_file():
            return RunStore(folder)
    known = sorted(path.parent.name for path in Path(outputs).glob("runs/*/run.json"))
    raise ValueError(
        f"run={str(run)!r} is neither a run folder nor a run id under {outputs}/runs; "
        f"known: {', '.join(known) or 'none yet, start one with `scorematrix run`'}"
    )


def read_document(path: Path, kind: type[Document]) -> Document:
    """Read and check one document.

    Raises:
        ValueError: naming the file, what is wrong, and the remedy.
    """
    try:
        content = json.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        raise ValueError(f"{path} is missing; the run folder is incomplete") from None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is no whole JSON file ({error}); delete it and repeat the command") from None
    version = content.get("schema_version", SCHEMA_VERSION) if isinstance(content, dict) else None
    if not isinstance(version, int) or version > SCHEMA_VERSION:
        raise ValueError(
            f"{path}: schema_version={version} is newer than {SCHEMA_VERSION}, the newest that this "
            "scorematrix reads; upgrade scorematrix"
        )
    try:
        return kind.model_validate(content)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "content"
        raise ValueError(f"{path}: {where}: {first['msg'].removeprefix('Value error, ')}") from None


def write_document(path: Path, document: BaseModel, *, indent: int | None = None) -> Path:
    """Write a document as JSON, whole or not at all."""
    return write_text(path, document.model_dump_json(indent=indent) + "\n")


def write_text(path: Path, text: str) -> Path:
    """Write a text file, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
    return path
