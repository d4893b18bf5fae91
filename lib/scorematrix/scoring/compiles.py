"""Seeing a compile whoever makes it: a backend's own report alone would have to be believed (rule 13)."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable

COUNTED = {"jax": "jax", "pytorch": "torch"}
"""Framework: the package that it is imported as."""


def compile_counter(framework: str) -> Callable[[], int]:
    """A function that tells how many programs the framework has made in this process so far; 0 where none is known.

    Loads the framework. Of a scorer of one's own, which may use any: the frameworks that it has loaded.
    """
    loaded = [name for name, package in COUNTED.items() if package in sys.modules]
    counters = [_counter(name) for name in ([framework] if framework in COUNTED else loaded)]
    return lambda: sum(counter() for counter in counters)


def _counter(framework: str) -> Callable[[], int]:
    return importlib.import_module(f"scorematrix.scoring.{framework}.compiles").compiles_so_far
