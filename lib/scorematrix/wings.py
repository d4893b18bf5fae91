"""The parts of the library that may be left out. The core works without their folders, and imports them only here."""

from __future__ import annotations

import importlib
import importlib.util
from typing import Any

WINGS = ("servers", "cluster")
"""Live servers; rounds on a Ray cluster. The `__init__` of each lists what the core may ask it for."""


def wing(name: str) -> Any | None:
    """Return the package of a wing, None if it was left out."""
    if importlib.util.find_spec(f"scorematrix.{name}") is None:
        return None
    return importlib.import_module(f"scorematrix.{name}")


def needed_wing(name: str, what: str) -> Any:
    """Return the package of a wing.

    Args:
        what: what needs it, for the error.

    Raises:
        ValueError: if it was left out.
    """
    if (found := wing(name)) is None:
        raise ValueError(f"{what} needs the folder scorematrix/{name}, which was left out; install all of it")
    return found
