"""Name the process that has an accelerator: a chip serves one process, and the frameworks' errors seldom say which.

The matched texts are from libtpu ("The TPU is already in use by process with pid 27846", "libtpu.so already in use by
another process", "open(/dev/vfio/0): Device or resource busy"), from CUDA in exclusive-process mode ("all CUDA-capable
devices are busy or unavailable") and from either framework when another process has filled the memory.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import psutil

TPU_LOCK = Path("/tmp/libtpu_lockfile")
"""libtpu locks this file while a process has the chip. The empty file stays afterwards."""
TPU_NODES = ("/dev/accel", "/dev/vfio/")
TAKEN = {
    "tpu": r"already in used? by|libtpu_lockfile|libtpu multi-process lockfile|/dev/(?:vfio|accel)\S*: "
    r"(?:device or resource busy|operation not permitted)",
    "gpu": r"devices?(?:\(s\))? (?:is/)?are busy or unavailable|cuda_?error_?device_?unavailable",
}
FULL = r"out of memory|resource_exhausted|outofmemory|error_out_of_memory"
LEAST_BYTES = 100 << 20
"""A process with less GPU memory, such as a desktop, is not why ours ran out."""


@dataclass(frozen=True)
class Holder:
    """Another process that has the device, and how much of its memory, if known."""

    pid: int
    used_bytes: int | None = None

    def __str__(self) -> str:
        try:
            name = f"pid {self.pid}, {psutil.Process(self.pid).name()}"
        except psutil.Error:
            name = f"pid {self.pid}"
        used = f", {self.used_bytes / 1e9:.1f} GB of its memory" if self.used_bytes else ""
        return f"process {name}{used}"


def with_holder(error: str, kind: Literal["cpu", "gpu", "tpu"]) -> str:
    """Return a framework's error, preceded by who has the device and what to do if another process has it."""
    who = taken(error, kind)
    return f"{who}; end it or wait for it, then repeat with --retry-failed. {error}" if who else error


def taken(error: str, kind: Literal["cpu", "gpu", "tpu"], nvml: Any = None) -> str | None:
    """Say who has the device, from an error and from this machine; None if the error is of another kind.

    Args:
        nvml: lists the processes of GPUs; by default NVML's Python binding, if installed.
    """
    text = error.lower()
    busy = kind in TAKEN and re.search(TAKEN[kind], text)
    full = kind == "gpu" and re.search(FULL, text)
    if not busy and not full:
        return None
    named = re.search(r"process with pid (\d+)", text)
    holders = [Holder(int(named[1]))] if named else list(_tpu_holders() if kind == "tpu" else _gpu_holders(nvml))
    if not busy:  # memory ran out, perhaps only because ours is too large
        holders = [holder for holder in holders if holder.used_bytes is None or holder.used_bytes >= LEAST_BYTES]
        return f"the GPU is shared with {_listed(holders)}" if holders else None
    return f"the {kind.upper()} is taken by {_listed(holders) or 'another process, which this account is not shown'}"


def tpu_taken() -> str | None:
    """Say who has a TPU that a framework silently ignored; None if nobody has it."""
    holders = list(_tpu_holders())
    return f"the TPU is taken by {_listed(holders)}" if holders else None


def _listed(holders: list[Holder]) -> str:
    return " and ".join(map(str, holders))


def _tpu_holders() -> Iterator[Holder]:
    """Yield the owner of the lock file or, if none, of open device nodes. Only root sees other users' processes."""
    pid = lock_owner(TPU_LOCK)
    yield from [Holder(pid)] if pid else map(Holder, _openers(TPU_NODES))


def lock_owner(path: Path, locks: Path = Path("/proc/locks")) -> int | None:
    """Return the process that has a file locked, by the kernel's table; None if no other process has."""
    try:
        inode = path.stat().st_ino
        lines = locks.read_text().splitlines()
    except OSError:
        return None
    # "1: POSIX  ADVISORY  WRITE 394 fe:00:2146929 0 EOF"; waiters have an arrow before their kind.
    rows = (line.split() for line in lines if "->" not in line)
    pids = (int(row[4]) for row in rows if len(row) > 5 and row[5].rsplit(":", 1)[-1] == str(inode))
    return next((pid for pid in pids if pid not in (os.getpid(), -1, 0)), None)


def _openers(prefixes: tuple[str, ...]) -> Iterator[int]:
    for process in psutil.process_iter():
        if process.pid == os.getpid():
            continue
        try:
            links = [os.readlink(entry.path) for entry in os.scandir(f"/proc/{process.pid}/fd")]
        except OSError:  # it has ended, or is another user's
            continue
        if any(link.startswith(prefixes) and link != "/dev/vfio/vfio" for link in links):
            yield process.pid


def _gpu_holders(nvml: Any) -> Iterator[Holder]:
    try:
        if nvml is None:
            import pynvml as nvml  # pyright: ignore[reportMissingImports]  # of the extra cuda
        nvml.nvmlInit()
        for i in range(nvml.nvmlDeviceGetCount()):
            for process in nvml.nvmlDeviceGetComputeRunningProcesses(nvml.nvmlDeviceGetHandleByIndex(i)):
                if process.pid != os.getpid():
                    yield Holder(process.pid, process.usedGpuMemory)
    except Exception:  # no binding, no driver, or a GPU that does not answer: NVML's error classes are made at run time
        return
