"""The result files: their schema, the store that reads and writes them, data frames of them."""

from scorematrix.results.schema import (
    PROTOCOL,
    SCHEMA_VERSION,
    SIDES,
    BackendRecord,
    Ceilings,
    Cell,
    Compile,
    Environment,
    Manifest,
    PlannedRound,
    Readiness,
    Round,
    Setup,
    SkipReason,
    TargetState,
    round_name,
)
from scorematrix.results.store import RunInUse, RunStore, open_run, read_document

__all__ = [
    "PROTOCOL",
    "SCHEMA_VERSION",
    "SIDES",
    "BackendRecord",
    "Ceilings",
    "Cell",
    "Compile",
    "Environment",
    "Manifest",
    "PlannedRound",
    "Readiness",
    "Round",
    "RunInUse",
    "RunStore",
    "Setup",
    "SkipReason",
    "TargetState",
    "open_run",
    "read_document",
    "round_name",
]
