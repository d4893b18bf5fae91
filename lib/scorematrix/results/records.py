"""What was tried for each target, and what its compiler proved, under outputs/readiness: it outlives a run."""

from __future__ import annotations

from pathlib import Path

from scorematrix.results.files import read_document, write_document
from scorematrix.results.targets import Attempt, CompiledRecord, TargetRecord


class RecordStore:
    """One file a target; every attempt is on disk from the moment it begins."""

    def __init__(self, outputs: Path | str) -> None:
        self.folder = Path(outputs) / "readiness"

    def read(self) -> dict[str, TargetRecord]:
        """All records, by target.

        Raises:
            ValueError: for a file that is truncated, edited or of a newer version.
        """
        found = (read_document(path, TargetRecord) for path in sorted(self.folder.glob("*.json")))
        return {record.target: record for record in found}

    def keep(self, target: str, attempt: Attempt) -> Path:
        """Add an attempt, or put its end in the place of its beginning."""
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
        """The newest proof of a plan on a target takes the place of an older one."""
        path = self.folder / "compiled" / f"{record.target}.{record.params_sha256[:12]}.json"
        return write_document(path, record, indent=1)

    def compiled(self, model: str, workload_sha256: str) -> list[CompiledRecord]:
        """The proofs that are of this model and workload.

        Raises:
            ValueError: for a file that is truncated, edited or of a newer version.
        """
        found = (read_document(path, CompiledRecord) for path in sorted((self.folder / "compiled").glob("*.json")))
        return [r for r in found if (r.model, r.workload_sha256) == (model, workload_sha256)]
