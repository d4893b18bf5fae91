"""Measure the memory that scoring takes beyond the loaded model: peak resident bytes, reset before each cell."""

from __future__ import annotations

import contextlib
import ctypes
import gc
from pathlib import Path

from scorematrix.measure.process import own_processes

PROC = Path("/proc")


def return_freed_memory() -> None:
    """Collect garbage and give freed memory back to the system; without glibc, it may stay counted as resident."""
    gc.collect()
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)


class HostMemory:
    """Peak memory of this process and its workers, above what was resident when this was made.

    It is the kernel's high-water mark (VmHWM), which `/proc/PID/clear_refs` resets, so no sampling thread disturbs the
    clock. A system without such a mark gives no figure.
    """

    def __init__(self) -> None:
        return_freed_memory()
        self._loaded = self._sum("VmRSS")

    def reset(self) -> None:
        """Reset the peak, after returning freed memory to the system.

        Memory that a loader still used when this was made, such as a copy of the weights, is not the loaded model's.
        """
        return_freed_memory()
        now = self._sum("VmRSS")
        if self._loaded is not None and now is not None:
            self._loaded = min(self._loaded, now)
        for pid in (process.pid for process in own_processes()):
            try:
                (PROC / str(pid) / "clear_refs").write_text("5")
            except OSError:
                self._loaded = None

    def peak_bytes(self) -> int | None:
        """Return the peak since `reset`, beyond the loaded model; None if the system does not report it."""
        peak = self._sum("VmHWM")
        return None if peak is None or self._loaded is None else max(0, peak - self._loaded)

    def _sum(self, field: str) -> int | None:
        total = 0
        for pid in (process.pid for process in own_processes()):
            try:
                lines = (PROC / str(pid) / "status").read_text().splitlines()
            except OSError:
                return None
            total += next((int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{field}:")), 0)
        return total
