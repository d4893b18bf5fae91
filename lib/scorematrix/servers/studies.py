"""Studies of a live server in addition to its rounds: an audit and its behaviour under load. One file per server."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from scorematrix.checksum import SealedDocument
from scorematrix.results.audits import AuditReport
from scorematrix.servers.load_records import LoadRecord


class ServerStudy(SealedDocument):
    """Study of one server of a run, made while its tuning round had it running."""

    schema_version: Literal[1] = 1
    backend: str
    target: str
    params_sha256: str
    workload_sha256: str
    at_utc: str
    audit: AuditReport | None = Field(default=None, description="None: not requested, or it failed, see `errors`")
    load: LoadRecord | None = Field(default=None, description="None: not requested, or it failed, see `errors`")
    errors: dict[str, str] = Field(default={}, description="by part: why it failed")

    @property
    def name(self) -> str:
        """File name without suffix; unique in a run."""
        return f"{self.backend}.{self.target}"
