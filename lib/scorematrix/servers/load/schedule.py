"""Schedule an open loop: Poisson arrivals, fixed by a seed before the first request is sent."""

from __future__ import annotations

import numpy as np


def poisson_arrivals(rate: float, seconds: float, seed: int) -> np.ndarray:
    """Return send times in nanoseconds after the start, in order. Equal arguments give equal times on any machine.

    Args:
        rate: mean arrivals per second.

    Raises:
        ValueError: for a rate or a time that is not finite and above 0.
    """
    for name, value in (("rate", rate), ("seconds", seconds)):
        if not (np.isfinite(value) and value > 0):
            raise ValueError(f"{name}={value} must be above 0")
    rng = np.random.Generator(np.random.PCG64(seed))
    arrivals: list[float] = []
    now = 0.0
    while True:
        # Inverse of the exponential distribution over random(): stable across numpy versions.
        for gap in -np.log1p(-rng.random(4096)) / rate:
            now += float(gap)
            if now >= seconds:
                return (np.array(arrivals, dtype=np.float64) * 1e9).astype(np.int64)
            arrivals.append(now)
