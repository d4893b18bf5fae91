"""How many programs JAX has made in this process, whoever asked for them."""

from __future__ import annotations

import jax

_n_compiles = 0


def _count(event: str, duration_secs: float, **_: object) -> None:
    global _n_compiles
    if event == "/jax/core/compile/backend_compile_duration":
        _n_compiles += 1


jax.monitoring.register_event_duration_secs_listener(_count)


def compiles_so_far() -> int:
    """Programs compiled, or read from the persistent cache, since this module was loaded."""
    return _n_compiles
