"""SIGKILL at any moment: finished rounds stay, nothing is half-written, the same command completes the run."""

from __future__ import annotations

import os
import random
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from scorematrix.results import RunStore
from tests.conftest import FIXTURES, call_cli, environment_of_users, run_cli
from tests.processes import KERNEL, running

pytestmark = [pytest.mark.slow, pytest.mark.chaos]
N_ROUNDS = 7
COMMAND = ("run", str(FIXTURES / "numpy.yaml"), "--run-id", "k")


def finished(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (folder / "rounds").glob("*.json")}


def test_sigkill_loses_at_most_the_round_in_flight(tmp_path: Path) -> None:
    """`KILLS=100 pytest -k sigkill` kills a hundred times; a run that is complete makes room for a new one."""
    rng, n_kills, folders = random.Random(2), int(os.environ.get("KILLS", "3")), 0
    environment = environment_of_users(KILL_TEST=str(tmp_path))
    run = tmp_path / "outputs" / "runs" / "k"
    for delay in [0.4, *(2 + 6 * rng.random() for _ in range(n_kills - 1))]:
        if len(finished(run)) == N_ROUNDS:
            assert call_cli("validate", str(run)).returncode == 0
            folders += 1
            run.rename(run.with_name(f"complete-{folders}"))
        before = finished(run)
        started = subprocess.Popen([sys.executable, "-m", "scorematrix", *COMMAND], cwd=tmp_path, env=environment,
                                   stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)  # fmt: skip
        try:
            started.wait(delay)
        except subprocess.TimeoutExpired:
            started.send_signal(signal.SIGKILL)
            started.wait()
        deadline = time.monotonic() + 15
        while running(KERNEL, KILL_TEST=str(tmp_path)) and time.monotonic() < deadline:
            time.sleep(0.2)
        alive = running(KERNEL, KILL_TEST=str(tmp_path))
        assert alive == [], "an orphaned kernel ends by itself, and does not disturb the next round"
        after = finished(run)
        assert before.items() <= after.items(), "finished rounds stay as they were"
        if (run / "run.json").exists():
            RunStore(run).rounds()  # every file is whole and belongs to the run
    done = run_cli(*COMMAND, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert finished(run).items() >= after.items() and len(finished(run)) == N_ROUNDS
    assert call_cli("validate", str(run)).returncode == 0
    left = [p.name for p in run.rglob(".*") if p.name != ".lock"]
    assert left == [] and not (run / "drafts").exists(), "what killed processes left is swept"


@pytest.mark.parametrize("times", [1, 2])
def test_ctrl_c_says_how_to_go_on(tmp_path: Path, times: int) -> None:
    command = [sys.executable, "-m", "scorematrix", *COMMAND]
    started = subprocess.Popen(command, cwd=tmp_path, env=environment_of_users(), text=True, stdout=subprocess.PIPE,
                               stderr=subprocess.PIPE)  # fmt: skip
    drafts = tmp_path / "outputs" / "runs" / "k" / "drafts"
    while not list(drafts.glob("*")):
        assert started.poll() is None
        time.sleep(0.02)
    for _ in range(times):
        started.send_signal(signal.SIGINT)
        time.sleep(0.1)
    _, errors = started.communicate(timeout=60)
    assert started.returncode == 130 and errors == "scorematrix: interrupted; the same command continues\n"


def test_dead_kernel_and_slow_call_are_results(tmp_path: Path) -> None:
    """A kernel that dies leaves a failed round; a call over its limit leaves a timeout; the run goes on."""
    slow = call_cli(*COMMAND, "--set", "call_timeout_seconds=0.00001", "--set", "rounds=2", cwd=tmp_path)
    assert slow.returncode == 3, slow.stdout + slow.stderr
    statuses = {cell.status for r in RunStore(tmp_path / "outputs" / "runs" / "k").rounds() for cell in r.cells}
    assert "timeout" in statuses and statuses <= {"timeout", "ok", "failed"}
    assert "call_timeout_seconds" in slow.stdout


def test_a_cell_that_ends_its_process_costs_itself_only(tmp_path: Path) -> None:
    """Every call outlasts its limit: each cell times out in a process of its own, none is left unmeasured."""
    done = call_cli(*COMMAND, "--set", "chunk_sizes=[2,4,8]", "--set", "call_timeout_seconds=0.00001",
                   "--only", "numpy", cwd=tmp_path)  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    for round_ in RunStore(tmp_path / "outputs" / "runs" / "k").rounds():
        statuses = [cell.status for cell in round_.cells]
        assert statuses == ["timeout"] * 3 and round_.n_processes == 3, statuses
    assert not (tmp_path / "outputs" / "runs" / "k" / "drafts").exists()


ONE_ROUND = """
import sys
from pathlib import Path
from scorematrix.matrix import load_params, plan_rounds, prepare_run
from scorematrix.matrix.group import measure_group
from scorematrix.results import RunStore
workload = dict(kind="canonical", query_tokens=24, n_items=3000, item_tokens=9, label_ids=[100, 200], seed=3)
params = load_params(sys.argv[1], {"workload": workload, "chunk_sizes": [100, 3000], "passes": 1, "controls": False})
store = RunStore(Path("run"))
prepare_run(params, store)
planned = next(p for p in plan_rounds(params) if p.backend == sys.argv[2] and p.role == "confirm")
measure_group(params, store, [planned])
"""


@pytest.mark.parametrize("backend", ["jax", "pytorch"])
def test_memory_that_runs_out_is_one_cells_result(backend: str, tmp_path: Path) -> None:
    """A dense mask over 27,000 tokens under a limit of memory: that cell fails by name, the small one is measured."""
    command = [sys.executable, "-c", ONE_ROUND, str(FIXTURES / "tiny.yaml"), backend]
    limit = 10 << 30  # of addresses, of which a framework takes some without using them

    def limited() -> None:
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))

    done = subprocess.run(command, cwd=tmp_path, env=environment_of_users(), preexec_fn=limited, capture_output=True,
                          text=True, timeout=500)  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    (round_,) = RunStore(tmp_path / "run").rounds()
    small, large = round_.cell(100), round_.cell(3000)
    assert small.status == "ok" and large.status == "failed", (small.error, large.error)
    assert any(words in large.error.lower() for words in ("memory", "resource_exhausted", "died")), large.error
