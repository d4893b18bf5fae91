"""run.json: what a run is to measure."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from scorematrix.checksum import SealedDocument
from scorematrix.results.schema import SCHEMA_VERSION, PlannedRound


class Manifest(SealedDocument):
    """Params, plan and hashes, fixed before the first round."""

    schema_version: Literal[1, 2] = SCHEMA_VERSION
    run_id: str
    created_utc: str
    scorematrix: str
    params: dict
    params_sha256: str
    workload_sha256: str
    floor_flops: int | None = Field(default=None, description="fewest operations that score the workload once exactly")
    call_flops: dict[int, int] = Field(
        default={}, description="by chunk size: operations of a pass, with the query once per call"
    )
    call_tokens: dict[int, int] = Field(
        default={}, description="by chunk size: real tokens of a pass, with the query once per call"
    )
    plan: list[PlannedRound]
