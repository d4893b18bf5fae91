"""Read and validate documents; write files atomically; tell the time as documents store it."""

from __future__ import annotations

import os
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ValidationError

from scorematrix.results.schema import SCHEMA_VERSION
from scorematrix.text_files import parse_json, read_text

Document = TypeVar("Document", bound=BaseModel)
REMEDY = "move it away and rerun the command that wrote it (in a run: `scorematrix run`, which writes missing files)"


class StorageFailed(OSError):
    """A file could not be written: the disk is full, read-only or broken. This is not a result; the run stops."""

    def __str__(self) -> str:
        return f"{self.strerror}: {self.filename}"


def read_document(path: Path, kind: type[Document]) -> Document:
    """Read and validate one document.

    Raises:
        ValueError: naming the file, what is wrong, and the remedy.
    """
    if not os.path.lexists(path):
        raise ValueError(f"{path} does not exist; rerun the command that writes it (in a run: `scorematrix run`)")
    try:
        content = parse_json(read_text(path), str(path))
    except ValueError as error:
        raise ValueError(f"{error}; {REMEDY}") from None
    if not isinstance(content, dict):
        raise ValueError(f"{path} contains {type(content).__name__}, not an object; {REMEDY}")
    if "sha256" in kind.model_fields and not content.get("sha256"):
        raise ValueError(f"{path}: sha256 is missing or empty, so the content cannot be checked; {REMEDY}")
    field = kind.model_fields.get("schema_version")
    newest = field.default if field else SCHEMA_VERSION
    version = content.get("schema_version", newest)
    if not isinstance(version, int) or version > newest:
        raise ValueError(
            f"{path}: schema_version={version} is newer than {newest}, the newest that this "
            "scorematrix reads; upgrade scorematrix"
        )
    try:
        return kind.model_validate(content)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "content"
        raise ValueError(f"{path}: {where}: {first['msg'].removeprefix('Value error, ')}; {REMEDY}") from None


def write_document(path: Path, document: BaseModel, *, indent: int | None = None) -> Path:
    """Write a document as JSON, atomically."""
    return write_text(path, document.model_dump_json(indent=indent) + "\n")


def write_text(path: Path, text: str) -> Path:
    """Write a text file, atomically."""
    return write_bytes(path, text.encode("utf-8"))


def write_bytes(path: Path, data: bytes) -> Path:
    """Write a file, atomically.

    Raises:
        StorageFailed: naming the file, if the write fails.
    """
    try:
        return _write_bytes(path, data)
    except OSError as error:
        raise StorageFailed(error.errno, error.strerror, str(path)) from None


def _write_bytes(path: Path, data: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
    return path


def utc_now() -> str:
    """Return the current UTC time in ISO 8601, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")
