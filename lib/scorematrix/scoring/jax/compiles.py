"""Count the programs that JAX has compiled in this process for any caller, and those from its persistent cache."""

from __future__ import annotations

from collections import Counter

import jax

COMPILED = "/jax/core/compile/backend_compile_duration"
CACHE_HIT = "/jax/compilation_cache/cache_hits"

_counts: Counter[str] = Counter()


jax.monitoring.register_event_listener(lambda event, **_: _counts.update([event]))
jax.monitoring.register_event_duration_secs_listener(lambda event, duration_secs, **_: _counts.update([event]))


def compiles_so_far() -> int:
    """Return the number of programs compiled, or read from the persistent cache, since this module was loaded."""
    return _counts[COMPILED]


def persistent_cache_hits() -> int:
    """Return how many of these were read from the persistent cache (JAX_COMPILATION_CACHE_DIR)."""
    return _counts[CACHE_HIT]
