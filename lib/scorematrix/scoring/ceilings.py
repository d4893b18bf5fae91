"""Measure the hardware's peak rates through each framework: the fastest matrix product and a plain copy (rule 37)."""

from __future__ import annotations

import dataclasses
import importlib
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, cast

import numpy as np

MATMUL_SIZES = {"cpu": (512, 1024, 2048), "gpu": (4096, 8192, 16384), "tpu": (4096, 8192, 16384)}
COPY_BYTES = {"cpu": 1 << 28, "gpu": 1 << 30, "tpu": 1 << 30}
REPEATS = 5
REPEATED_SECONDS = 0.25
"""Short products are repeated for at least this long, because the fastest of many escapes interference. With two busy
processes running it kept 96 % of the peak; the median of five long products fell to a third."""
MOST_SECONDS = 5.0
"""Slow products are repeated for no longer than this. The first may take minutes where the format is emulated."""
PROBED = ("jax", "pytorch")
"""Frameworks that have a `ceilings` module."""


@dataclass(frozen=True)
class Ceilings:
    """The best rates measured on this device through this framework.

    Attributes:
        matmul_size: n of the fastest n x n x n product, operands in `dtype`.
        matmul_flops_per_second: its rate in the fastest run.
        copy_bytes_per_second: bytes read and written by a copy that is larger than any cache.
    """

    dtype: str
    matmul_size: int
    matmul_flops_per_second: float
    copy_bytes_per_second: float

    def times(self, n_devices: int) -> Ceilings:
        """Return the rates of `n_devices` devices like this one."""
        matmul, copy = self.matmul_flops_per_second * n_devices, self.copy_bytes_per_second * n_devices
        return dataclasses.replace(self, matmul_flops_per_second=matmul, copy_bytes_per_second=copy)


class Probe(Protocol):
    """The interface of a framework's `ceilings` module. The returned functions run once and wait for the result."""

    def matmul(self, size: int, dtype: str, device_kind: str) -> Callable[[], None]: ...

    def copy(self, n_bytes: int, device_kind: str) -> Callable[[], None]: ...


class NumpyProbe:
    """Matrix products and copies with numpy."""

    def matmul(self, size: int, dtype: str, device_kind: str) -> Callable[[], None]:
        """Return a function that computes a square product."""
        a, b = np.random.default_rng(0).random((2, size, size), np.float32)
        product = np.empty_like(a)

        def run() -> None:
            np.matmul(a, b, out=product)

        return run

    def copy(self, n_bytes: int, device_kind: str) -> Callable[[], None]:
        """Return a function that copies so many bytes."""
        source = np.zeros(n_bytes, np.uint8)
        target = np.empty_like(source)
        return lambda: np.copyto(target, source)


def measure_ceilings(framework: str, device_kind: str, dtype: str) -> Ceilings:
    """Measure both rates in this process, within seconds.

    For a framework outside `PROBED` they are the CPU's rates through numpy, in float32.

    Raises:
        ValueError: for a framework outside `PROBED` on an accelerator.
    """
    if framework not in PROBED and device_kind != "cpu":
        raise ValueError(f"framework={framework!r} has no ceilings on a {device_kind}; only {', '.join(PROBED)} have")
    ours = f"scorematrix.scoring.{framework}.ceilings"
    probe = cast("Probe", importlib.import_module(ours)) if framework in PROBED else NumpyProbe()
    dtype = dtype if framework in PROBED else "float32"
    seconds = {size: fastest_seconds(probe.matmul(size, dtype, device_kind)) for size in MATMUL_SIZES[device_kind]}
    rates = {size: 2 * size**3 / taken for size, taken in seconds.items()}
    best = max(rates, key=rates.__getitem__)
    n_bytes = COPY_BYTES[device_kind]
    copied = 2 * n_bytes / fastest_seconds(probe.copy(n_bytes, device_kind))
    return Ceilings(dtype, best, rates[best], copied)


def fastest_seconds(run: Callable[[], None]) -> float:
    """Return the duration of the fastest of several runs, after an uncounted first run."""
    run()
    seconds: list[float] = []
    while sum(seconds) < (MOST_SECONDS if len(seconds) < REPEATS else REPEATED_SECONDS):
        start = time.perf_counter()
        run()
        seconds.append(time.perf_counter() - start)
    return min(seconds)
