"""The folder for models and compiled programs between runs."""

from __future__ import annotations

import os
from pathlib import Path


class ModelUnavailable(ValueError):
    """A known model is not available on this machine; the message says why and what to do."""


def cache_folder() -> Path:
    """Return SCOREMATRIX_CACHE, else XDG_CACHE_HOME/scorematrix, else ~/.cache/scorematrix."""
    if chosen := os.environ.get("SCOREMATRIX_CACHE"):
        return Path(chosen).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "scorematrix"
