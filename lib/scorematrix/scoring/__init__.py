"""Backends: their protocol, the registry, and how to load them. Importing this package loads no framework."""

from scorematrix.scoring.contract import (
    Backend,
    BackendInfo,
    CompileEvent,
    CompilesPerShape,
    DType,
    Scores,
    checked_scores,
    finite_scores,
)
from scorematrix.scoring.registry import (
    BACKENDS,
    REFERENCE,
    BackendEntry,
    BackendRow,
    backend_entry,
    list_backends,
    load_backend,
    missing_packages,
)

__all__ = [
    "BACKENDS",
    "REFERENCE",
    "Backend",
    "BackendEntry",
    "BackendInfo",
    "BackendRow",
    "CompileEvent",
    "CompilesPerShape",
    "DType",
    "Scores",
    "backend_entry",
    "checked_scores",
    "finite_scores",
    "list_backends",
    "load_backend",
    "missing_packages",
]
