"""The JAX engine over a mesh gives the scores of one device, on eight devices that the CPU is made to show."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from tests.conftest import QUICK, ROOT, environment_of_users
from tests.scoring.eight_devices import CASES, N_RANDOM, random_cases

pytestmark = pytest.mark.slow


# Sums over the model axis, heads that are repeated, uneven groups, replicas, steps, a query that is kept.
QUICK_CASES = ["8 shards, kv repeated", "2 by 2, in steps", "4 by 2, query kept"]
WIDE_CASES = [case for case in [*CASES, *random_cases(N_RANDOM, seed=8)] if case not in QUICK_CASES]


def differences(cases: list[str]) -> dict[str, list[float]]:
    """From one device's scores, by case: one process asks them all."""
    environment = environment_of_users(XLA_FLAGS=f"--xla_force_host_platform_device_count=8 {QUICK}")
    command = [sys.executable, "-m", "tests.scoring.eight_devices", *cases]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=550)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    return dict(json.loads(line) for line in done.stdout.splitlines() if line.startswith("["))


@pytest.fixture(scope="module")
def quick() -> dict[str, list[float]]:
    return differences(QUICK_CASES)


@pytest.fixture(scope="module")
def wide() -> dict[str, list[float]]:
    return differences(WIDE_CASES)


@pytest.mark.parametrize("case", QUICK_CASES)
def test_sharded_scores_are_those_of_one_device(case: str, quick: dict[str, list[float]]) -> None:
    assert max(quick[case]) <= 2e-5


@pytest.mark.chaos
@pytest.mark.parametrize("case", WIDE_CASES)
def test_every_mesh_scores_as_one_device(case: str, wide: dict[str, list[float]]) -> None:
    assert max(wide[case]) <= 2e-5
