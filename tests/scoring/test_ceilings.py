"""Ceilings are what the hardware gives at best, also while other processes use it."""

from __future__ import annotations

import itertools

import pytest

from scorematrix.scoring import ceilings
from scorematrix.scoring.ceilings import MOST_SECONDS, REPEATED_SECONDS, REPEATS, fastest_seconds, measure_ceilings


@pytest.mark.parametrize(
    ("seconds", "expected_runs"),
    [
        ((0.5,), REPEATS),
        ((0.001,), REPEATED_SECONDS / 0.001),
        ((0.01, 0.01, 0.01, 0.002), None),
        ((MOST_SECONDS / 2,), 2),
        ((MOST_SECONDS * 2,), 1),
    ],
)
def test_the_fastest_of_many_runs_counts(
    seconds: tuple[float, ...], expected_runs: float | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    now, runs, taken = 0.0, 0, itertools.cycle(seconds)

    def run() -> None:
        nonlocal now, runs
        now, runs = now + next(taken), runs + 1

    monkeypatch.setattr(ceilings.time, "perf_counter", lambda: now)
    assert fastest_seconds(run) == pytest.approx(min(seconds))
    assert expected_runs is None or abs(runs - 1 - expected_runs) <= 1


@pytest.mark.parametrize("framework", ["jax", "pytorch", "neither"])
def test_a_framework_is_measured_in_its_own_products(framework: str) -> None:
    found = measure_ceilings(framework, "cpu", "float32")
    assert found.matmul_size in ceilings.MATMUL_SIZES["cpu"] and found.dtype == "float32"
    assert found.matmul_flops_per_second > 1e9 and found.copy_bytes_per_second > 1e8
    if framework == "neither":
        with pytest.raises(ValueError, match="neither.*gpu"):
            measure_ceilings(framework, "gpu", "float32")
