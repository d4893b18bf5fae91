"""Seeing a compile whoever makes it: a backend's own report alone would have to be believed (rule 13)."""

from __future__ import annotations

import importlib
from collections.abc import Callable

COUNTED = ("jax", "pytorch")


def compile_counter(framework: str) -> Callable[[], int]:
    """A function that tells how many programs the framework has made in this process so far; 0 where none is known.

    Loads the framework.
    """
    if framework not in COUNTED:
        return lambda: 0
    return importlib.import_module(f"scorematrix.scoring.{framework}.compiles").compiles_so_far
