"""What `--on` means, and that there is one line where there is no cluster."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from scorematrix.cluster.connect import cluster_address
from tests.conftest import FIXTURES, call_cli, run_cli


def test_what_on_means(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    assert cluster_address("ray") == "auto"
    monkeypatch.setenv("RAY_ADDRESS", "10.0.0.1:6379")
    assert cluster_address("ray") == "10.0.0.1:6379"
    assert cluster_address("ray://10.0.0.1:10001") == "ray://10.0.0.1:10001"


TINY = str(FIXTURES / "tiny.yaml")
LOOKED_FOR = [pytest.mark.slow, pytest.mark.chaos]
CLUSTERS = {"ray": "127.0.0.1:1", "ray://127.0.0.1:1": "ray://127.0.0.1:1"}


@pytest.mark.parametrize("on", [pytest.param(on, marks=LOOKED_FOR) for on in CLUSTERS])
def test_a_cluster_that_is_not_there_is_one_line(on: str, tmp_path: Path) -> None:
    """In a process of its own: Ray leaves things behind where it has looked for a cluster."""
    nowhere = {"RAY_ADDRESS": "127.0.0.1:1", "RAY_AUTH_MODE": "disabled"}
    refused(run_cli("run", TINY, "--on", on, cwd=tmp_path, **nowhere), CLUSTERS[on], tmp_path)


@pytest.mark.parametrize("on", ["slurm", "ray://"])
def test_what_is_no_cluster_is_one_line(on: str, tmp_path: Path) -> None:
    refused(call_cli("run", TINY, "--on", on, cwd=tmp_path), f"--on='{on}'", tmp_path)


def refused(done: subprocess.CompletedProcess, words: str, folder: Path) -> None:
    """Exit code 2, one line, nothing written."""
    assert done.returncode == 2, done.stderr
    assert words in done.stderr and len(done.stderr.strip().splitlines()) == 1, done.stderr
    assert not (folder / "outputs").exists()
