"""What was found of a live server beside its rounds: an audit, and its behaviour under load. One file a server."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from scorematrix.results.audits import AuditReport
from scorematrix.results.load import LoadRecord
from scorematrix.sealed import SealedDocument


class ServerStudy(SealedDocument):
    """One server of a run, while its tuning round had it up."""

    schema_version: Literal[1] = 1
    backend: str
    target: str
    params_sha256: str
    workload_sha256: str
    at_utc: str
    audit: AuditReport | None = Field(default=None, description="None: not asked for, or it broke off, see `errors`")
    load: LoadRecord | None = Field(default=None, description="None: not asked for, or it broke off, see `errors`")
    errors: dict[str, str] = Field(default={}, description="by part: why it broke off")

    @property
    def name(self) -> str:
        """File name without its ending; unique in a run."""
        return f"{self.backend}.{self.target}"
