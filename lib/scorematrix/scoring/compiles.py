"""Count compiles in the framework itself, so that a backend's report need not be trusted (rule 13)."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable

COUNTED = {"jax": "jax", "pytorch": "torch"}
"""The package name of each framework."""


def compile_counter(framework: str) -> Callable[[], int]:
    """Return a function that counts the programs that the framework has made in this process so far.

    It loads the framework. A custom scorer may use any framework: its count covers those that are loaded now, and is 0
    if none of `COUNTED` is.
    """
    loaded = [name for name, package in COUNTED.items() if package in sys.modules]
    counters = [_counter(name) for name in ([framework] if framework in COUNTED else loaded)]
    return lambda: sum(counter() for counter in counters)


def _counter(framework: str) -> Callable[[], int]:
    return importlib.import_module(f"scorematrix.scoring.{framework}.compiles").compiles_so_far
