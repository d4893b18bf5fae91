"""What is recorded of the machine while it measures: heat, others, GPUs by way of a fake NVML."""

from __future__ import annotations

import multiprocessing
import os
import time
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest

from scorematrix.measure.gpu import GpuWatch
from scorematrix.measure.noise import (
    MOST_REST_SECONDS,
    Bystanders,
    NoiseWatch,
    await_rest,
    process_seconds,
    throttle_events,
    waiting_shares,
)
from scorematrix.results.cells import Turn
from tests.conftest import real_time


def _burn(seconds: float, cores: set[int]) -> None:
    os.sched_setaffinity(0, cores)
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        pass


def _burn_and_wait(core: int, pipe: tuple) -> None:
    pipe[1].send("begins")
    _burn(0.15, {core})
    time.sleep(60)


@real_time
def test_work_of_others_is_told_from_our_own() -> None:
    """A process that is not ours takes a core; one that we have named counts as ours."""
    core = min(os.sched_getaffinity(0))
    child = multiprocessing.get_context("fork").Process(target=_burn, args=(1.5, {core}))
    child.start()
    its = [psutil.Process(child.pid)]
    named, unnamed, before = Bystanders([child.pid]), Bystanders([]), process_seconds(its)
    time.sleep(1.0)
    (ours, stolen), (theirs, _), used = named.seconds(), unnamed.seconds(), process_seconds(its) - before
    child.join()
    assert used > 0.1 and theirs - ours == pytest.approx(used, abs=0.1), "what the child took, however busy the cores"
    assert stolen >= 0


@real_time
def test_a_process_that_spins_is_waited_for_and_an_idle_one_is_not() -> None:
    core = min(os.sched_getaffinity(0))
    child = multiprocessing.get_context("spawn").Process(
        target=_burn_and_wait, args=(core, pipe := multiprocessing.Pipe())
    )
    child.start()
    began = time.monotonic()
    await_rest([os.getpid(), 2**22 + 1])
    assert time.monotonic() - began < MOST_REST_SECONDS / 2, "this process, and one that is not there"
    pipe[0].recv()
    began = time.monotonic()
    await_rest([child.pid])
    assert 0.05 < time.monotonic() - began < MOST_REST_SECONDS
    began = time.monotonic()
    await_rest([child.pid])
    assert time.monotonic() - began < 0.05
    child.kill()
    child.join()
    await_rest([child.pid])


@real_time
def test_a_process_that_works_while_it_waits_is_told_from_an_idle_one() -> None:
    child = multiprocessing.get_context("fork").Process(target=_burn, args=(3.0, os.sched_getaffinity(0)))
    child.start()
    shares = waiting_shares({"polls": [child.pid], "idle": [os.getpid()], "gone": [2**22 + 1]})
    child.kill()
    child.join()
    assert shares["polls"] > 0.2 and shares["idle"] < 0.05 and shares["gone"] == 0.0


def test_noise_is_of_the_turns_alone() -> None:
    n_cores = os.cpu_count() or 1
    turns = [
        Turn(pass_index=i, request=0, lap=i, place=i, conductor_ns=10**9, others_ns=taken, stolen_ns=taken // 2)
        for i, taken in enumerate([0, 4 * 10**8])
    ]
    noise = NoiseWatch(gpu=False).read(turns)
    assert noise.others_share == pytest.approx(0.2 / n_cores) and noise.stolen_share == pytest.approx(0.1 / n_cores)
    assert noise.load_average >= 0 and noise.gpus == []
    assert NoiseWatch(gpu=False).read([]).others_share is None


def test_throttle_counters_are_summed(tmp_path: Path) -> None:
    assert throttle_events(tmp_path) is None
    for core, counts in enumerate([(1, 2), (3, 4)]):
        folder = tmp_path / f"cpu{core}" / "thermal_throttle"
        folder.mkdir(parents=True)
        for name, count in zip(("core", "package"), counts, strict=True):
            (folder / f"{name}_throttle_count").write_text(f"{count}\n")
    assert throttle_events(tmp_path) == 10
    (tmp_path / "cpu0" / "thermal_throttle" / "core_throttle_count").write_text("not a number")
    assert throttle_events(tmp_path) is None


class FakeNvml:
    """One GPU that warms up, spends energy, and is cut by heat; it has no clock to tell."""

    NVML_CLOCK_SM, NVML_TEMPERATURE_GPU = 1, 0

    def __init__(self, reasons: int = 0, pids: tuple[int, ...] = ()) -> None:
        self._reasons, self._pids, self._asked = reasons, pids, 0

    def __getattr__(self, name: str):
        raise RuntimeError(f"{name}: Not Supported")

    def nvmlInit(self) -> None: ...

    def nvmlDeviceGetCount(self) -> int:
        return 1

    def nvmlDeviceGetHandleByIndex(self, index: int) -> int:
        return index

    def nvmlDeviceGetName(self, handle: int) -> bytes:
        return b"Fake GPU"

    def nvmlSystemGetDriverVersion(self) -> str:
        return "999.1"

    def nvmlDeviceGetEnforcedPowerLimit(self, handle: int) -> int:
        return 600_000

    def nvmlDeviceGetTemperature(self, handle: int, kind: int) -> int:
        self._asked += 1
        return 40 + 10 * self._asked

    def nvmlDeviceGetTotalEnergyConsumption(self, handle: int) -> int:
        return 5_000_000 * self._asked

    def nvmlDeviceGetCurrentClocksThrottleReasons(self, handle: int) -> int:
        return self._reasons

    def nvmlDeviceGetComputeRunningProcesses(self, handle: int) -> list:
        return [SimpleNamespace(pid=pid) for pid in (os.getpid(), *self._pids)]


@pytest.mark.parametrize(
    ("reasons", "words"),
    [
        (0, []),
        (0x04 | 0x01, []),  # a power cap, an idle clock
        (0x40, ["hardware thermal slowdown"]),
        (0x08 | 0x20, ["hardware slowdown", "software thermal slowdown"]),
    ],
)
def test_gpu_states_are_read(reasons: int, words: list[str]) -> None:
    (gpu,) = GpuWatch(FakeNvml(reasons, (1, 2))).read()
    assert (gpu.name, gpu.driver, gpu.power_limit_watts) == ("Fake GPU", "999.1", 600.0)
    assert gpu.temperature_celsius == [50, 60] and gpu.clock_mhz == []
    assert gpu.energy_joules == 5000.0  # joules, of a counter in millijoules
    assert gpu.other_processes == 2 and gpu.slowdowns == words


def test_without_nvml_there_is_no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "pynvml", None)
    assert GpuWatch.open() is None
