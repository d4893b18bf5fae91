"""A time limit on calls that no exception can interrupt, because they are inside a framework's C++."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager


class Watchdog:
    """Calls `on_timeout` from a separate thread when a limited block exceeds its limit.

    `on_timeout` is expected to record what happened and end the process: the stuck call never returns.
    A call that keeps Python's global lock also blocks this thread (frameworks release it). The last resort is then the
    round's time limit, which the orchestrating process enforces.
    """

    def __init__(self, limit_seconds: float, on_timeout: Callable[[], None]) -> None:
        self._limit_seconds = limit_seconds
        self._on_timeout = on_timeout
        self._deadline: float | None = None
        self._lock = threading.Lock()
        self._stop = threading.Event()
        threading.Thread(target=self._watch, name="call-watchdog", daemon=True).start()

    @contextmanager
    def limit(self) -> Iterator[None]:
        """Limit the block's time. A block that ends too late waits here until `on_timeout` returns."""
        self._deadline = time.monotonic() + self._limit_seconds
        try:
            yield
        finally:
            with self._lock:
                self._deadline = None

    def close(self) -> None:
        """Stop watching."""
        self._stop.set()

    def _watch(self) -> None:
        while not self._stop.wait(min(0.5, self._limit_seconds / 4)):
            with self._lock:
                if self._deadline is not None and time.monotonic() > self._deadline:
                    self._on_timeout()
                    return
