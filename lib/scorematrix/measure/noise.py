"""Record interference during a round: other processes, the hypervisor, clocks cut for heat (rules 19, 20)."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

import psutil

from scorematrix.measure.gpu import GpuWatch
from scorematrix.results.cells import Turn
from scorematrix.results.schema import GpuNoise, Noise

THERMAL = Path("/sys/devices/system/cpu")
REST_POLL_SECONDS, MOST_REST_SECONDS = 0.001, 0.3
"""How often to look whether a process is idle, and how long at most. libgomp's threads spin for 5 to 20 ms."""
WAITING_SECONDS = 1.0
"""How long processes are watched while nobody asks them to compute."""


class NoiseWatch:
    """Interference during a round: make it before the round's cells, and call `read` after them.

    Args:
        partners: processes that measure in turn with this one; they do not count as others on its GPU.
    """

    def __init__(self, *, gpu: bool, partners: int = 0) -> None:
        self._gpus = GpuWatch.open() if gpu else None
        self._partners = partners
        self._mhz = _clock_mhz()
        self._throttled = throttle_events(THERMAL)
        self._start = time.monotonic()

    def read(self, turns: Sequence[Turn]) -> Noise:
        """Return the interference since this was made; shares of processor time are of these turns."""
        mhz, throttled = _clock_mhz(), throttle_events(THERMAL)
        total = sum(turn.conductor_ns or 0 for turn in turns) * (psutil.cpu_count() or 1)
        others, stolen = (sum(getattr(turn, f"{who}_ns") or 0 for turn in turns) for who in ("others", "stolen"))
        return Noise(
            seconds=time.monotonic() - self._start,
            load_average=os.getloadavg()[0],
            others_share=min(1.0, others / total) if total else None,
            stolen_share=min(1.0, stolen / total) if total else None,
            cpu_mhz=[self._mhz, mhz] if self._mhz and mhz else [],
            throttle_events=None if throttled is None or self._throttled is None else throttled - self._throttled,
            gpus=[self._alone(gpu) for gpu in self._gpus.read()] if self._gpus else [],
        )

    def _alone(self, gpu: GpuNoise) -> GpuNoise:
        """Return the record without the partners, and without energy, which includes the partners' turns."""
        if not self._partners:
            return gpu
        others = gpu.other_processes
        others = None if others is None else max(0, others - self._partners)
        return gpu.model_copy(update={"other_processes": others, "energy_joules": None})


def throttle_events(folder: Path) -> int | None:
    """Return how often a core or package was slowed for heat since boot; None without a counter."""
    counters = list(folder.glob("cpu*/thermal_throttle/*_throttle_count"))
    try:
        return sum(int(path.read_text()) for path in counters) if counters else None
    except (OSError, ValueError):
        return None


def _core_times(cores: list[int]) -> dict[str, float]:
    """Return the seconds that these cores were idle, stolen by the hypervisor, and busy."""
    idle = stolen = busy = 0.0
    for core, times in enumerate(psutil.cpu_times(percpu=True)):
        if core in cores:
            waiting, lost = times.idle + getattr(times, "iowait", 0.0), getattr(times, "steal", 0.0)
            guest = getattr(times, "guest", 0.0) + getattr(times, "guest_nice", 0.0)  # counted in user as well
            idle, stolen = idle + waiting, stolen + lost
            busy += sum(times) - waiting - lost - guest
    return {"idle": idle, "stolen": stolen, "busy": busy}


def _living(pids: Iterable[int]) -> list[psutil.Process]:
    """Return the processes with these ids, without those that have ended."""
    processes = []
    for pid in pids:
        with suppress(psutil.Error):
            processes.append(psutil.Process(pid))
    return processes


def process_seconds(processes: Iterable[psutil.Process]) -> float:
    """Return the processor seconds of these processes, without those that have ended."""
    total = 0.0
    for process in processes:
        try:
            times = process.cpu_times()
        except psutil.Error:
            continue
        total += times.user + times.system
    return total


def await_rest(pids: Iterable[int]) -> None:
    """Wait until no thread of these processes runs, this process excepted. Threads may spin for a while after a call.

    On two cores, PyTorch's spinning thread made the next turn of another process 4 % longer.
    """
    others, end = [pid for pid in pids if pid != os.getpid()], time.monotonic() + MOST_REST_SECONDS
    while any(map(_is_running, others)) and time.monotonic() < end:
        time.sleep(REST_POLL_SECONDS)


def _is_running(pid: int) -> bool:
    """Return whether a thread of a process runs or is ready to run.

    The kernel updates another process's CPU time only every few milliseconds, which is too late.
    """
    for path in Path(f"/proc/{pid}/task").glob("*/stat"):
        with suppress(OSError):  # the thread has ended
            if path.read_text().rpartition(")")[2].split()[0] == "R":
                return True
    return False


def waiting_shares(pids: Mapping[str, Iterable[int]]) -> dict[str, float]:
    """Return by name the share of a core that processes take while nobody asks them to compute."""
    for ids in pids.values():
        await_rest(ids)  # from the last call
    processes = {name: _living(ids) for name, ids in pids.items()}
    before = {name: process_seconds(own) for name, own in processes.items()}
    time.sleep(WAITING_SECONDS)
    return {name: (process_seconds(own) - before[name]) / WAITING_SECONDS for name, own in processes.items()}


def _clock_mhz() -> float | None:
    try:
        frequency = psutil.cpu_freq()
    except (OSError, NotImplementedError, RuntimeError):
        return None
    return frequency.current if frequency and frequency.current else None


class Bystanders:
    """Processor time that everything but these processes took on the machine's cores, since the last reading.

    Args:
        pids: of the processes that belong to the measurement; this one always does.
    """

    def __init__(self, pids: Iterable[int]) -> None:
        self._own = [psutil.Process(), *_living(pids)]
        self._last = self._now()

    def seconds(self) -> tuple[float, float]:
        """Return processor seconds of others on all cores, and seconds stolen by the hypervisor."""
        before, self._last = self._last, self._now()
        busy, stolen, ours = (now - then for now, then in zip(self._last, before, strict=True))
        return max(0.0, busy - ours), max(0.0, stolen)

    def _now(self) -> tuple[float, float, float]:
        times = _core_times(list(range(psutil.cpu_count() or 1)))
        return times["busy"], times["stolen"], process_seconds(self._own)
