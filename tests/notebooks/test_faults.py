"""Runs over disks, clocks and files that fail: nothing is lost but the round in flight, the next command goes on."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
import time
from datetime import datetime
from pathlib import Path

import pytest

from scorematrix.results import RunStore
from tests.conftest import FIXTURES, call_cli, environment_of_users, run_cli
from tests.disks import small_disk
from tests.processes import KERNEL, running

pytestmark = [pytest.mark.slow, pytest.mark.chaos]
RUN = ("run", str(FIXTURES / "numpy.yaml"), "--run-id", "r", "--only", "numpy")
N_ROUNDS = 3
"""A tuning round and two to confirm."""

SET_BACK = """
#define _GNU_SOURCE
#include <dlfcn.h>
#include <time.h>
/* The wall clock runs backwards, an hour with every second; the one that is never set back is as it was. */
int clock_gettime(clockid_t id, struct timespec *t) {
    static int (*real)(clockid_t, struct timespec *);
    static struct timespec first;
    if (!real) { real = dlsym(RTLD_NEXT, "clock_gettime"); real(CLOCK_MONOTONIC, &first); }
    int found = real(id, t);
    if (id == CLOCK_REALTIME) {
        struct timespec now;
        real(CLOCK_MONOTONIC, &now);
        long long passed = (now.tv_sec - first.tv_sec) * 1000000000LL + now.tv_nsec - first.tv_nsec;
        long long shown = t->tv_sec * 1000000000LL + t->tv_nsec - 3600 * passed;
        t->tv_sec = shown / 1000000000LL;
        t->tv_nsec = shown % 1000000000LL;
    }
    return found;
}
"""


def rounds_of(run: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted((run / "rounds").glob("*.json"))}


def leftovers(run: Path) -> list[str]:
    return [p.name for p in run.rglob(".*") if p.name != ".lock"]


@pytest.fixture(scope="module")
def complete(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("complete")
    done = run_cli(*RUN, cwd=folder)
    assert done.returncode == 0, done.stdout + done.stderr
    assert len(rounds_of(folder / "outputs" / "runs" / "r")) == N_ROUNDS
    return folder


FULL = [
    # where the small disk is, its size, what does not fit
    ("outputs", "8k", "readiness.json"),  # before the run is there at all
    ("outputs", "28k", "r00"),  # the executed copy of the first round
    ("outputs", "52k", "r01"),  # of the second
    ("outputs/runs/r/rounds", "8k", "r01.json"),  # the kernel itself meets the full disk
]


@pytest.mark.parametrize(("where", "size", "what"), FULL)
def test_a_disk_that_fills_up_costs_the_round_in_flight(tmp_path: Path, where: str, size: str, what: str) -> None:
    run = tmp_path / "outputs" / "runs" / "r"
    with small_disk(tmp_path / where, size) as disk:
        full = call_cli(*RUN, cwd=tmp_path)
        assert full.returncode == 1, full.stdout + full.stderr
        (line,) = full.stderr.strip().splitlines()
        assert f"No space left on device: {run if 'rounds' in where else 'outputs/runs/r'}" in line and what in line
        assert "same command" in line
        before = rounds_of(run)
        assert len(before) == (1 if "r01" in what else 0)
        if (run / "run.json").is_file():
            assert all(cell.status == "ok" for r in RunStore(run).rounds() for cell in r.cells), "it is no result"
        disk.remount("size=32m")
        done = call_cli(*RUN, cwd=tmp_path)
        assert done.returncode == 0, done.stdout + done.stderr
        after = rounds_of(run)
        assert after.items() >= before.items() and len(after) == N_ROUNDS
        assert all(cell.status == "ok" for r in RunStore(run).rounds() for cell in r.cells)
        assert leftovers(run) == []


def test_a_clock_that_runs_backwards_changes_no_duration(tmp_path: Path) -> None:
    if shutil.which("cc") is None:
        pytest.skip("no C compiler to make a clock that is set back with")
    (tmp_path / "clock.c").write_text(SET_BACK)
    library = tmp_path / "clock.so"
    subprocess.run(["cc", "-shared", "-fPIC", "-o", library, tmp_path / "clock.c", "-ldl"], check=True)
    done = run_cli(*RUN, cwd=tmp_path, LD_PRELOAD=str(library))
    assert done.returncode == 0, done.stdout + done.stderr
    rounds = RunStore(tmp_path / "outputs" / "runs" / "r").rounds()
    assert len(rounds) == N_ROUNDS
    for round_ in rounds:
        started, finished = (datetime.fromisoformat(at) for at in (round_.started_utc, round_.finished_utc))
        assert finished < started, "the fault was there"
        assert 0 < round_.seconds < 300 and all(cell.status == "ok" for cell in round_.cells)


@pytest.mark.parametrize(
    ("name", "damage"),
    [
        ("rounds/numpy.own.cpu.r01.json", "truncated"),
        ("rounds/numpy.own.cpu.r01.json", "corrupted"),
        ("workload.json", "truncated"),
        ("run.json", "corrupted"),
        ("readiness.json", "truncated"),
    ],
)
def test_a_damaged_file_is_named_and_made_again(complete: Path, tmp_path: Path, name: str, damage: str) -> None:
    shutil.copytree(complete, tmp_path, dirs_exist_ok=True)
    run = tmp_path / "outputs" / "runs" / "r"
    path, before = run / name, rounds_of(run)
    data = path.read_bytes()
    middle = len(data) // 2
    path.write_bytes(data[:middle] if damage == "truncated" else data[:middle] + b"\xff\x00" + data[middle + 2 :])
    if name != "readiness.json":  # this one is made anew by every run
        refused = call_cli(*RUN, cwd=tmp_path)
        assert refused.returncode == 2, refused.stdout + refused.stderr
        (line,) = refused.stderr.strip().splitlines()
        assert name in line and "move it away" in line.lower()
        path.rename(tmp_path / "away.json")
    done = call_cli(*RUN, cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    after = rounds_of(run)
    assert after.keys() == before.keys(), "what was moved away is there again"
    assert {n for n in after if after[n] != before[n]} == ({path.name} if name.startswith("rounds/") else set())
    assert call_cli("validate", str(run)).returncode == 0


@pytest.mark.parametrize("moment", ["start", "cell"])
def test_a_kernel_that_dies_or_hangs_costs_its_round_only(tmp_path: Path, moment: str) -> None:
    """It is killed before it has said anything; or, once its cell has begun, stopped: it neither ends nor answers."""
    command = [sys.executable, "-m", "scorematrix", *RUN, "--set", "round_timeout_seconds=20"]
    environment = environment_of_users(FAULT_TEST=str(tmp_path))
    started = subprocess.Popen(command, cwd=tmp_path, env=environment, text=True, stdout=subprocess.PIPE,
                               stderr=subprocess.PIPE)  # fmt: skip
    drafts = tmp_path / "outputs" / "runs" / "r" / "drafts"
    kernels, deadline = [], time.monotonic() + 120
    while not kernels and started.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)
        if moment == "start" or list(drafts.glob("*.json")):
            kernels = running(KERNEL, FAULT_TEST=str(tmp_path))
    kernels[0].send_signal(signal.SIGKILL if moment == "start" else signal.SIGSTOP)
    out, err = started.communicate(timeout=300)
    assert started.returncode == 0, out + err
    assert not kernels[0].is_running() and running(KERNEL, FAULT_TEST=str(tmp_path)) == [], "it was ended"
    rounds = RunStore(tmp_path / "outputs" / "runs" / "r").rounds()
    failed = [r for r in rounds if any(cell.status != "ok" for cell in r.cells)]
    assert len(rounds) == N_ROUNDS and len(failed) == 1
    (cell,) = failed[0].cells
    words = ["kernel"] if moment == "start" else ["20 s"]
    assert any(word in cell.error for word in words), cell.error
    assert failed[0].seconds > (0 if moment == "start" else 20), "the time until it was given up is the round's"
    assert cell.crashed == (moment == "start")
    retry = () if cell.crashed else ("--retry-failed",)  # a crash is made up for without being asked
    done = call_cli(*command[3:], *retry, cwd=tmp_path)
    assert done.returncode == 0 and (f"{failed[0].name} " in done.stdout) and "again" in done.stdout, done.stdout
    rounds = RunStore(tmp_path / "outputs" / "runs" / "r").rounds()
    assert all(cell.status == "ok" for r in rounds for cell in r.cells)
    tries = {r.name: [one.outcome for one in r.tries] for r in rounds if r.tries}
    assert tries == {failed[0].name: ["crashed" if cell.crashed else "failed"]}
