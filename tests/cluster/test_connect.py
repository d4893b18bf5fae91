"""What `--on` means, and that there is one line where there is no cluster."""

from __future__ import annotations

from pathlib import Path

import pytest

from scorematrix.cluster.connect import cluster_address
from tests.conftest import FIXTURES, run_cli


def test_what_on_means(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    assert cluster_address("ray") == "auto"
    monkeypatch.setenv("RAY_ADDRESS", "10.0.0.1:6379")
    assert cluster_address("ray") == "10.0.0.1:6379"
    assert cluster_address("ray://10.0.0.1:10001") == "ray://10.0.0.1:10001"


NO_CLUSTER = {
    "ray": "reaches no Ray cluster at 127.0.0.1:1",
    "ray://127.0.0.1:1": "reaches no Ray cluster at ray://127.0.0.1:1",
    "slurm": "is no cluster; write ray",
    "ray://": "is no cluster; write ray",
}


@pytest.mark.slow
@pytest.mark.parametrize("on", NO_CLUSTER)
def test_no_cluster_is_one_line_and_nothing_is_written(on: str, tmp_path: Path) -> None:
    nowhere = {"RAY_ADDRESS": "127.0.0.1:1", "RAY_AUTH_MODE": "disabled"}
    done = run_cli("run", str(FIXTURES / "tiny.yaml"), "--on", on, cwd=tmp_path, **nowhere)
    assert done.returncode == 2, done.stderr
    assert NO_CLUSTER[on] in done.stderr and len(done.stderr.strip().splitlines()) == 1, done.stderr
    assert not (tmp_path / "outputs").exists()
