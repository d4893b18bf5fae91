"""Shared fixtures: the real model, tiny random models, and one small real run that many tests look at."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from scorematrix.models import Model, ModelUnavailable, load_model

ROOT = Path(__file__).resolve().parents[1]

# Small, but real in every step: the embedded model, the shipped text, papermill, fresh kernels.
REAL_PARAMS = """\
name: real
model: smollm2-135m
dtype: float32
workload: {kind: text, dataset: yes_no, n_queries: 2, items_per_query: 6}
backends:
  - {backend: jax, views: [portable]}
  - {backend: pytorch, views: [portable]}
  - {backend: transformers, views: [expanded_cache]}
comparisons:
  - {jax: cpu, pytorch: cpu}
  - {jax: tpu-v6e-1, pytorch: gpu-g4}
chunk_sizes: [2, 6]
tuning_rounds: 1
rounds: 2
passes: 1
seed: 7
"""

TINY_PARAMS = """\
name: tiny
model: random:tiny-llama
dtype: float32
workload:
  {kind: canonical, query_tokens: 24, n_items: 8, item_tokens: [3, 9], label_ids: [100, 200], n_queries: 2, seed: 3}
backends:
  - {backend: jax, views: [portable]}
  - {backend: pytorch, views: [portable]}
comparisons:
  - {jax: cpu, pytorch: cpu}
chunk_sizes: [4, 8]
tuning_rounds: 1
rounds: 2
passes: 2
seed: 7
"""


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
    (folder / "real.yaml").write_text(REAL_PARAMS)
    done = run_cli("run", "real.yaml", "--run-id", "real", "--report", cwd=folder)
    assert done.returncode == 0, done.stdout + done.stderr
    (folder / "stdout.txt").write_text(done.stdout)
    return folder / "outputs" / "runs" / "real"
