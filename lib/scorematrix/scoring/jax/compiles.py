"""Count the programs that JAX has compiled in this process for any caller, and those from its persistent cache."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable
from typing import TypeVar

import jax

COMPILED = "/jax/core/compile/backend_compile_duration"
CACHE_HIT = "/jax/compilation_cache/cache_hits"

Key = TypeVar("Key", bound=Hashable)
Program = TypeVar("Program")
_counts: Counter[str] = Counter()


jax.monitoring.register_event_listener(lambda event, **_: _counts.update([event]))
jax.monitoring.register_event_duration_secs_listener(lambda event, duration_secs, **_: _counts.update([event]))


def compiles_so_far() -> int:
    """Return the number of programs compiled, or read from the persistent cache, since this module was loaded."""
    return _counts[COMPILED]


def persistent_cache_hits() -> int:
    """Return how many of these were read from the persistent cache (JAX_COMPILATION_CACHE_DIR)."""
    return _counts[CACHE_HIT]


def kept_program(programs: dict[Key, Program], key: Key, make: Callable[[], Program], most: int | None) -> Program:
    """Return the program of a key, made if it is missing; of more than `most`, drop those not used for longest."""
    programs[key] = program = programs.pop(key) if key in programs else make()  # a dict keeps the order of insertion
    while most is not None and len(programs) > most:
        del programs[next(iter(programs))]
    return program
