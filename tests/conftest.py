"""Shared fixtures: the real model, tiny random models, and one small real run that many tests look at."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from scorematrix.models import Model, ModelUnavailable, load_model

ROOT = Path(__file__).resolve().parents[1]

FIXTURES = ROOT / "tests" / "fixtures"


def run_cli(*arguments: str, cwd: Path = ROOT, python: str = sys.executable, **variables: str):
    """The command line in a process of its own, as a user runs it."""
    command = [python, "-m", "scorematrix", *arguments]
    environment = os.environ | {"COLUMNS": "200", "JAX_PLATFORMS": "cpu"} | variables
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=500)


@pytest.fixture(scope="session")
def smollm2() -> Model:
    try:
        return load_model("smollm2-135m")
    except ModelUnavailable as error:
        pytest.skip(f"the embedded model cannot be had: {error}")


@pytest.fixture(scope="session", params=["tiny-llama", "tiny-qwen2", "tiny-qwen3"])
def tiny(request: pytest.FixtureRequest) -> Model:
    return load_model(f"random:{request.param}", seed=11)


@pytest.fixture(scope="session")
def real_run(tmp_path_factory: pytest.TempPathFactory, smollm2: Model) -> Path:
    """A finished small run of the real model, with its report."""
    folder = tmp_path_factory.mktemp("real")
    done = run_cli("run", str(FIXTURES / "real.yaml"), "--run-id", "real", "--report", cwd=folder)
    assert done.returncode == 0, done.stdout + done.stderr
    (folder / "stdout.txt").write_text(done.stdout)
    return folder / "outputs" / "runs" / "real"
