"""What else went on while a round measured: other processes, the machine below, clocks cut for heat (rules 19, 20)."""

from __future__ import annotations

import os
import time
from pathlib import Path

import psutil

from scorematrix.measure.gpu import GpuWatch
from scorematrix.measure.process import own_processes
from scorematrix.results.schema import Noise

THERMAL = Path("/sys/devices/system/cpu")


class NoiseWatch:
    """Made before the cells of a round, asked after them."""

    def __init__(self, *, gpu: bool) -> None:
        self._gpus = GpuWatch.open() if gpu else None
        self._mhz = _clock_mhz()
        self._throttled = throttle_events(THERMAL)
        self._cores = sorted(os.sched_getaffinity(0))
        self._start = time.monotonic()
        self._times, self._own = _core_times(self._cores), _own_seconds()

    def read(self) -> Noise:
        """What happened since this was made."""
        seconds = time.monotonic() - self._start
        own = _own_seconds() - self._own
        passed = {name: value - self._times[name] for name, value in _core_times(self._cores).items()}
        total = sum(passed.values())
        mhz, throttled = _clock_mhz(), throttle_events(THERMAL)
        busy = total - passed["idle"] - passed["stolen"]
        return Noise(
            seconds=seconds,
            load_average=os.getloadavg()[0],
            others_share=min(1.0, max(0.0, busy - own) / total) if total > 0 else None,
            stolen_share=passed["stolen"] / total if total > 0 else None,
            cpu_mhz=[self._mhz, mhz] if self._mhz and mhz else [],
            throttle_events=None if throttled is None or self._throttled is None else throttled - self._throttled,
            gpus=self._gpus.read() if self._gpus else [],
        )


def throttle_events(folder: Path) -> int | None:
    """Times that any core or package was slowed for heat since the machine started; None without a counter."""
    counters = list(folder.glob("cpu*/thermal_throttle/*_throttle_count"))
    try:
        return sum(int(path.read_text()) for path in counters) if counters else None
    except (OSError, ValueError):
        return None


def _core_times(cores: list[int]) -> dict[str, float]:
    """Seconds that these cores spent idle, lent to others below, and busy."""
    idle = stolen = busy = 0.0
    for core, times in enumerate(psutil.cpu_times(percpu=True)):
        if core in cores:
            waiting, lost = times.idle + getattr(times, "iowait", 0.0), getattr(times, "steal", 0.0)
            guest = getattr(times, "guest", 0.0) + getattr(times, "guest_nice", 0.0)  # counted in user as well
            idle, stolen = idle + waiting, stolen + lost
            busy += sum(times) - waiting - lost - guest
    return {"idle": idle, "stolen": stolen, "busy": busy}


def _own_seconds() -> float:
    """Processor seconds of this process and of the workers that it started."""
    total = 0.0
    for process in own_processes():
        try:
            times = process.cpu_times()
        except psutil.Error:
            continue
        total += times.user + times.system
    return total


def _clock_mhz() -> float | None:
    try:
        frequency = psutil.cpu_freq()
    except (OSError, NotImplementedError, RuntimeError):
        return None
    return frequency.current if frequency and frequency.current else None
