"""SIGKILL at any moment: finished rounds stay, nothing is half-written, the same command completes the run."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from scorematrix.results import RunStore
from tests.conftest import FIXTURES, environment_of_users, run_cli

pytestmark = pytest.mark.slow
COMMAND = ("run", str(FIXTURES / "tiny.yaml"), "--run-id", "k", "--set", "chunk_sizes=[8]")


def finished(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (folder / "rounds").glob("*.json")}


def kernels(folder: Path) -> list[psutil.Process]:
    """Kernel processes that descend from runs in this folder."""
    found = []
    for process in psutil.process_iter(["cmdline", "environ"]):
        command = " ".join(process.info["cmdline"] or [])
        if "ipykernel_launcher" in command and (process.info["environ"] or {}).get("KILL_TEST") == str(folder):
            found.append(process)
    return found


def test_sigkill_loses_at_most_the_round_in_flight(tmp_path: Path) -> None:
    run, rng = tmp_path / "outputs" / "runs" / "k", random.Random(2)
    environment = environment_of_users(KILL_TEST=str(tmp_path))
    for delay in (0.4, 6 + 6 * rng.random(), 9 + 9 * rng.random()):
        before = finished(run)
        started = subprocess.Popen([sys.executable, "-m", "scorematrix", *COMMAND], cwd=tmp_path, env=environment,
                                   stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)  # fmt: skip
        try:
            started.wait(delay)
        except subprocess.TimeoutExpired:
            started.send_signal(signal.SIGKILL)
            started.wait()
        deadline = time.monotonic() + 15
        while kernels(tmp_path) and time.monotonic() < deadline:
            time.sleep(0.2)
        assert kernels(tmp_path) == [], "an orphaned kernel ends by itself, and does not disturb the next round"
        after = finished(run)
        assert before.items() <= after.items(), "finished rounds stay as they were"
        if (run / "run.json").exists():
            RunStore(run).rounds()  # every file is whole and belongs to the run
    done = run_cli(*COMMAND, "--report", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert finished(run).items() >= after.items() and len(finished(run)) == 7
    assert run_cli("validate", str(run)).returncode == 0
    left = [p.name for p in run.rglob(".*") if p.name != ".lock"]
    assert left == [], "temporary files of killed processes are swept"


def test_dead_kernel_and_slow_call_are_results(tmp_path: Path) -> None:
    """A kernel that dies leaves a failed round; a call over its limit leaves a timeout; the run goes on."""
    slow = run_cli(*COMMAND, "--set", "call_timeout_seconds=0.00001", "--set", "rounds=2", cwd=tmp_path)
    assert slow.returncode == 3, slow.stdout + slow.stderr
    statuses = {cell.status for r in RunStore(tmp_path / "outputs" / "runs" / "k").rounds() for cell in r.cells}
    assert "timeout" in statuses and statuses <= {"timeout", "ok", "failed"}
    assert "call_timeout_seconds" in slow.stdout
