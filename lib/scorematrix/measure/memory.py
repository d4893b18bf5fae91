"""How much memory scoring takes beyond the loaded model: the peak of resident bytes, reset before each cell."""

from __future__ import annotations

import contextlib
import ctypes
import gc
from pathlib import Path

from scorematrix.measure.process import own_processes

PROC = Path("/proc")


class HostMemory:
    """The peak over what was resident when this was made, of this process and the workers that it started.

    From the kernel's high-water mark (VmHWM), which `/proc/PID/clear_refs` resets: no sampling thread disturbs the
    clock. Where the system has no such mark there is no figure.
    """

    def __init__(self) -> None:
        self._trim()
        self._loaded = self._sum("VmRSS")

    def reset(self) -> None:
        """Forget peaks: what earlier cells freed goes back to the system first.

        What a loader still held when this was made, its own copy of the weights say, is no part of the loaded model.
        """
        self._trim()
        now = self._sum("VmRSS")
        if self._loaded is not None and now is not None:
            self._loaded = min(self._loaded, now)
        for pid in (process.pid for process in own_processes()):
            try:
                (PROC / str(pid) / "clear_refs").write_text("5")
            except OSError:
                self._loaded = None

    def peak_bytes(self) -> int | None:
        """Peak since `reset`, beyond the loaded model; None where the system does not tell."""
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

    @staticmethod
    def _trim() -> None:
        gc.collect()
        with contextlib.suppress(OSError, AttributeError):  # not glibc: what was freed may stay counted
            ctypes.CDLL(None).malloc_trim(0)
