"""An accelerator that another process has: which errors mean that, who it is, and where a user reads it."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from scorematrix.readiness import check_readiness, device_users
from scorematrix.readiness.device_users import lock_owner, taken, with_holder
from tests.conftest import environment_of_users
from tests.factory import CPU_ONLY, make_params, write_run

IN_USE = (
    "RuntimeError: Unable to initialize backend 'tpu': ABORTED: The TPU is already in use by process with pid {pid}. "
    "Not attempting to load libtpu.so in this process. (set JAX_PLATFORMS='' to automatically choose an available "
    "backend)"
)
OTHER_USER = (
    'libtpu.so already in use by another process probably owned by another user. Run "$ sudo lsof -w /dev/accel0" to '
    "figure out which process is using the TPU."
)
VFIO = (
    "Unable to initialize backend 'tpu': UNKNOWN: TPU initialization failed: open(/dev/vfio/1): Device or resource "
    "busy: Device or resource busy; Couldn't open iommu group /dev/vfio/1"
)
LOCKFILE = 'Internal error when accessing libtpu multi-process lockfile. Run "$ sudo rm /tmp/libtpu_lockfile".'
BUSY = "RuntimeError: CUDA error: all CUDA-capable devices are busy or unavailable"
BUSY_NOW = "CUDA error: CUDA-capable device(s) is/are busy or unavailable"
DRIVER = "INTERNAL: failed call to cuDevicePrimaryCtxRetain: CUDA_ERROR_DEVICE_UNAVAILABLE"
TORCH_FULL = (
    "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 138.00 MiB. GPU 0 has a total capacity of 15.90 GiB "
    "of which 8.44 MiB is free."
)
JAX_FULL = "XlaRuntimeError: RESOURCE_EXHAUSTED: Out of memory while trying to allocate 12884901888 bytes."

MEANS = [
    # error, device, the words before who has it; None: no matter of other processes
    (OTHER_USER, "tpu", "the TPU is taken by process pid"),
    (VFIO, "tpu", "the TPU is taken by process pid"),
    (LOCKFILE, "tpu", "the TPU is taken by process pid"),
    (BUSY, "gpu", "the GPU is taken by process pid"),
    (BUSY_NOW, "gpu", "the GPU is taken by process pid"),
    (DRIVER, "gpu", "the GPU is taken by process pid"),
    (TORCH_FULL, "gpu", "the GPU is shared with process pid"),
    (JAX_FULL, "gpu", "the GPU is shared with process pid"),
    (JAX_FULL, "tpu", None),
    (TORCH_FULL, "cpu", None),
    (OTHER_USER, "gpu", None),
    ("RuntimeError: Unable to initialize backend 'tpu': UNKNOWN: TPU initialization failed: No ba16c7433 device found.",
     "tpu", None),
    ("ValueError: label_ids holds 999", "gpu", None),
]  # fmt: skip


@pytest.fixture
def other(tmp_path: Path) -> Iterator[subprocess.Popen]:
    """A process that has a lock file locked, as libtpu locks it, and a device node open."""
    code = (
        "import fcntl, sys; lock = open(sys.argv[1], 'w'); fcntl.lockf(lock, fcntl.LOCK_EX); "
        "node = open(sys.argv[2], 'w'); print('held', flush=True); sys.stdin.read()"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "lockfile"), str(tmp_path / "accel0")]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "held\n"
    yield process
    process.communicate()


class FakeNvml:
    """One GPU with some processes: (pid, bytes)."""

    def __init__(self, *processes: tuple[int, int | None]) -> None:
        self._processes = [SimpleNamespace(pid=pid, usedGpuMemory=used) for pid, used in processes]

    def nvmlInit(self) -> None: ...

    def nvmlDeviceGetCount(self) -> int:
        return 1

    def nvmlDeviceGetHandleByIndex(self, index: int) -> int:
        return index

    def nvmlDeviceGetComputeRunningProcesses(self, handle: int) -> list[SimpleNamespace]:
        return self._processes


@pytest.fixture
def machine(other, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> subprocess.Popen:
    """A machine whose TPU and GPU the other process has."""
    monkeypatch.setattr(device_users, "TPU_LOCK", tmp_path / "lockfile")
    monkeypatch.setattr(device_users, "TPU_NODES", (str(tmp_path / "accel"),))
    monkeypatch.setitem(sys.modules, "pynvml", FakeNvml((other.pid, 5 * 10**9)))
    return other


@pytest.mark.parametrize(("error", "kind", "words"), MEANS)
def test_which_errors_mean_another_process(machine, error: str, kind: str, words: str | None) -> None:
    found = taken(error, kind)
    if words is None:
        assert found is None and with_holder(error, kind) == error
    else:
        assert found.startswith(f"{words} {machine.pid}, python")
        assert with_holder(error, kind) == f"{found}; end it or wait for it, then repeat with --retry-failed. {error}"


def test_a_pid_that_the_error_names_is_believed(machine) -> None:
    me = subprocess.Popen(["sleep", "60"])
    try:
        assert taken(IN_USE.format(pid=me.pid), "tpu") == f"the TPU is taken by process pid {me.pid}, sleep"
    finally:
        me.kill()
        me.wait()
    assert taken(IN_USE.format(pid=me.pid), "tpu") == f"the TPU is taken by process pid {me.pid}", "it is gone by now"


def test_without_a_lock_whoever_has_the_device_node_open_is_named(
    machine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(device_users, "TPU_LOCK", tmp_path / "no lockfile")
    assert taken(VFIO, "tpu").startswith(f"the TPU is taken by process pid {machine.pid}, python")
    monkeypatch.setattr(device_users, "TPU_NODES", (str(tmp_path / "vfio"),))
    assert taken(VFIO, "tpu") == "the TPU is taken by another process, which this account is not shown"


def test_memory_that_only_ours_takes_is_nobody_elses_fault() -> None:
    import os

    for processes in ([], [(os.getpid(), 70 * 10**9)], [(1, 8 << 20)]):
        assert taken(TORCH_FULL, "gpu", FakeNvml(*processes)) is None, processes
    shared = taken(TORCH_FULL, "gpu", FakeNvml((os.getpid(), 10**9), (1, 60 * 10**9), (2, None)))
    assert (
        shared.startswith("the GPU is shared with process pid 1")
        and "60.0 GB of its memory and process pid 2" in shared
    )


def test_a_lock_of_our_own_is_not_anothers(tmp_path: Path, other) -> None:
    import fcntl

    assert lock_owner(tmp_path / "lockfile") == other.pid
    assert lock_owner(tmp_path / "none") is None and lock_owner(tmp_path / "lockfile", tmp_path / "no locks") is None
    with open(tmp_path / "ours", "w") as handle:
        fcntl.lockf(handle, fcntl.LOCK_EX)
        assert lock_owner(tmp_path / "ours") is None


def test_readiness_says_in_use_and_not_that_a_package_is_missing() -> None:
    needed = [("tpu-v6e-1", "jax", ["portable"])]
    has_it = replace(CPU_ONLY, has_tpu=True, tpu_evidence="device nodes /dev/accel0")
    (free,) = check_readiness(needed, has_it, "machine").states
    (state,) = check_readiness(needed, replace(has_it, taken={"tpu": "the TPU is taken by process pid 7"}), "m").states
    assert free.reason == "not_installed" and state.reason == "in_use"
    assert state.evidence == "device nodes /dev/accel0, but the TPU is taken by process pid 7"
    assert "end that process or wait for it" in state.next_step and "make setup" not in state.next_step


ROUND = """
import sys
from scorematrix.matrix import draft
from scorematrix.matrix import round as rounds
from scorematrix.results import PlannedRound
def load_backend(*_, **__):
    raise RuntimeError(sys.argv[2])
draft.load_backend = load_backend
planned = PlannedRound(index=1, role="confirm", backend="jax", view="portable", target="tpu-v6e-1", position=1)
print(rounds.run_round(sys.argv[1], planned).model_dump_json())
"""


def test_a_round_that_finds_the_chip_taken_says_by_whom(other, tmp_path: Path) -> None:
    store = write_run(tmp_path / "run", params=make_params(rounds=2))
    done = subprocess.run([sys.executable, "-c", ROUND, str(store.folder), IN_USE.format(pid=other.pid)],
                          env=environment_of_users(), capture_output=True, text=True, timeout=120)  # fmt: skip
    assert done.returncode == 0, done.stderr
    round_ = json.loads(done.stdout.splitlines()[-1])
    begin = f"the TPU is taken by process pid {other.pid}, python"
    assert round_["error"].startswith(begin) and "--retry-failed" in round_["error"]
    assert {cell["status"] for cell in round_["cells"]} == {"not_run"}
    assert all(cell["error"].startswith(begin) for cell in round_["cells"])
