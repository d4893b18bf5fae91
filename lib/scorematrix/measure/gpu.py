"""Read the state of NVIDIA GPUs through NVML: clocks, temperature, energy, other processes."""

from __future__ import annotations

import os
from types import ModuleType
from typing import Any, Self

from scorematrix.results.schema import GpuNoise

SLOWDOWNS = {
    0x08: "hardware slowdown",
    0x20: "software thermal slowdown",
    0x40: "hardware thermal slowdown",
    0x80: "hardware power brake",
}
"""NVML's bits for clocks cut by hardware or for heat; a power cap or an idle clock is not among them."""


class GpuWatch:
    """The state of this machine's GPUs before and after a measurement."""

    def __init__(self, nvml: ModuleType | Any) -> None:
        self._nvml = nvml
        nvml.nvmlInit()
        self._handles = [nvml.nvmlDeviceGetHandleByIndex(i) for i in range(nvml.nvmlDeviceGetCount())]
        self._before = [self._state(handle) for handle in self._handles]

    @classmethod
    def open(cls) -> Self | None:
        """Start watching; return None without NVML or its Python binding."""
        try:
            import pynvml  # pyright: ignore[reportMissingImports]  # of the extra cuda

            return cls(pynvml)
        except Exception:  # NVML's errors are classes made at run time
            return None

    def read(self) -> list[GpuNoise]:
        """Return what each GPU reported at the start and reports now."""
        readings = []
        for handle, before in zip(self._handles, self._before, strict=True):
            after = self._state(handle)
            reasons = (before["reasons"] or 0) | (after["reasons"] or 0)
            energy = (before["energy"], after["energy"])
            readings.append(
                GpuNoise(
                    name=self._text(self._nvml.nvmlDeviceGetName(handle)),
                    driver=self._text(self._nvml.nvmlSystemGetDriverVersion()),
                    power_limit_watts=self._scaled("nvmlDeviceGetEnforcedPowerLimit", handle, 1e-3),
                    clock_mhz=[s["clock"] for s in (before, after) if s["clock"] is not None],
                    temperature_celsius=[s["temperature"] for s in (before, after) if s["temperature"] is not None],
                    slowdowns=[label for bit, label in SLOWDOWNS.items() if reasons & bit],
                    other_processes=after["others"],
                    energy_joules=None if None in energy else (energy[1] - energy[0]) / 1e3,
                )
            )
        return readings

    def _state(self, handle: Any) -> dict[str, Any]:
        nvml = self._nvml
        processes = self._ask("nvmlDeviceGetComputeRunningProcesses", handle)
        return {
            "clock": self._scaled("nvmlDeviceGetClockInfo", handle, 1.0, nvml.NVML_CLOCK_SM),
            "temperature": self._scaled("nvmlDeviceGetTemperature", handle, 1.0, nvml.NVML_TEMPERATURE_GPU),
            "reasons": self._ask("nvmlDeviceGetCurrentClocksThrottleReasons", handle),
            "energy": self._ask("nvmlDeviceGetTotalEnergyConsumption", handle),  # millijoules
            "others": None if processes is None else sum(p.pid != os.getpid() for p in processes),
        }

    def _ask(self, name: str, *arguments: Any) -> Any:
        """Call an NVML function; return None if this GPU does not support it."""
        try:
            return getattr(self._nvml, name)(*arguments)
        except Exception:
            return None

    def _scaled(self, name: str, handle: Any, scale: float, *arguments: Any) -> float | None:
        value = self._ask(name, handle, *arguments)
        return None if value is None else value * scale

    @staticmethod
    def _text(value: str | bytes) -> str:
        return value.decode() if isinstance(value, bytes) else value
