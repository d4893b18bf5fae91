"""Provisioning attempts and compile results of each target, kept across runs under outputs/readiness."""

from __future__ import annotations

from pathlib import Path

from scorematrix.results.files import read_document, write_document
from scorematrix.results.target_records import Attempt, CompiledRecord, TargetRecord


class RecordStore:
    """One file per target. Each attempt is on disk as soon as it starts."""

    def __init__(self, outputs: Path | str) -> None:
        self.folder = Path(outputs) / "readiness"

    def read(self) -> dict[str, TargetRecord]:
        """Return all records, by target.

        Raises:
            ValueError: for a file that is truncated, edited or of a newer version.
        """
        records = (read_document(path, TargetRecord) for path in sorted(self.folder.glob("*.json")))
        return {record.target: record for record in records}

    def keep(self, target: str, attempt: Attempt) -> Path:
        """Add an attempt; its end replaces its `begun` entry."""
        path = self.folder / f"{target}.json"
        attempts = list(read_document(path, TargetRecord).attempts) if path.is_file() else []
        begun = (attempt.at_utc, attempt.zone, attempt.name)
        if (
            attempts
            and attempts[-1].outcome == "begun"
            and (attempts[-1].at_utc, attempts[-1].zone, attempts[-1].name) == begun
        ):
            attempts.pop()
        return write_document(path, TargetRecord(target=target, attempts=[*attempts, attempt]), indent=1)

    def keep_compiled(self, record: CompiledRecord) -> Path:
        """Write a compile record; it replaces an older one of the same plan and target."""
        path = self.folder / "compiled" / f"{record.target}.{record.params_sha256[:12]}.json"
        return write_document(path, record, indent=1)

    def compiled(self, model: str, workload_sha256: str) -> list[CompiledRecord]:
        """Return the compile records of this model and workload.

        Raises:
            ValueError: for a file that is truncated, edited or of a newer version.
        """
        records = (read_document(path, CompiledRecord) for path in sorted((self.folder / "compiled").glob("*.json")))
        return [r for r in records if (r.model, r.workload_sha256) == (model, workload_sha256)]
