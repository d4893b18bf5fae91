"""The JAX engine over a mesh gives the scores of one device, on eight devices that the CPU is made to show."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from tests.conftest import QUICK, ROOT, environment_of_users
from tests.scoring.eight_devices import CASES, N_RANDOM, random_cases

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def differences() -> dict[str, list[float]]:
    environment = environment_of_users(XLA_FLAGS=f"--xla_force_host_platform_device_count=8 {QUICK}")
    command = [sys.executable, "-m", "tests.scoring.eight_devices"]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=550)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    return dict(json.loads(line) for line in done.stdout.splitlines() if line.startswith("["))


@pytest.mark.parametrize("case", [*CASES, *random_cases(N_RANDOM, seed=8)])
def test_sharded_scores_are_those_of_one_device(case: str, differences: dict[str, list[float]]) -> None:
    assert max(differences[case]) <= 2e-5
