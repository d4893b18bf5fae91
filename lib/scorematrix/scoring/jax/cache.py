"""JAX's persistent compile cache: where it lies, and whether a compile was served from it."""

from __future__ import annotations

from pathlib import Path

import jax

_hits = 0


def _count(event: str, **_: object) -> None:
    global _hits
    if event == "/jax/compilation_cache/cache_hits":
        _hits += 1


jax.monitoring.register_event_listener(_count)


def persistent_cache_hits() -> int:
    """Compiles of this process so far that were read from the persistent cache."""
    return _hits


def use_persistent_cache(folder: Path) -> None:
    """Keep compiled programs in a folder, those that compile quickly included."""
    folder.mkdir(parents=True, exist_ok=True)
    jax.config.update("jax_compilation_cache_dir", str(folder))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)
