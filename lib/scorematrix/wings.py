"""The optional folders of the library. The rest works without them, and imports them only here."""

from __future__ import annotations

import importlib
import importlib.util
from typing import Any

WINGS = ("servers", "cluster")
"""Live servers; rounds on a Ray cluster. The `__init__` of each lists what the rest of the library uses."""


def wing(name: str) -> Any | None:
    """Return an optional package, None if its folder is missing."""
    if importlib.util.find_spec(f"scorematrix.{name}") is None:
        return None
    return importlib.import_module(f"scorematrix.{name}")


def needed_wing(name: str, what: str) -> Any:
    """Return an optional package that is needed.

    Args:
        what: what needs it, for the error.

    Raises:
        ValueError: if its folder is missing.
    """
    if (found := wing(name)) is None:
        raise ValueError(f"{what} needs the folder scorematrix/{name}, which is missing; install the whole package")
    return found
