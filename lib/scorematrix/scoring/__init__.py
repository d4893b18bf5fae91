"""Backends: what they promise, which exist, how they are loaded. Loads no framework by itself."""

from scorematrix.scoring.contract import Backend, BackendInfo, CompileEvent, DType, Scores
from scorematrix.scoring.registry import BACKENDS, BackendEntry, backend_entry, load_backend, missing_packages

__all__ = [
    "BACKENDS",
    "Backend",
    "BackendEntry",
    "BackendInfo",
    "CompileEvent",
    "DType",
    "Scores",
    "backend_entry",
    "load_backend",
    "missing_packages",
]
