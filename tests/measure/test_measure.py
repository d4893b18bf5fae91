"""The clock, the time limit, and a record that gives nobody away."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from scorematrix import ScoreRequest
from scorematrix.measure import Watchdog, describe_environment, time_pass
from scorematrix.measure.memory import HostMemory

REQUESTS = [[ScoreRequest([1], [[2], [3]], [4, 5])] * 3, [ScoreRequest([1], [[2]], [4, 5])]]


class FakeBackend:
    """Takes a known time and answers with a known array."""

    def __init__(self, seconds: float = 0.0, answer=None) -> None:
        self.seconds, self.answer, self.n_calls = seconds, answer, 0

    def score(self, request: ScoreRequest):
        self.n_calls += 1
        time.sleep(self.seconds)
        return np.full((len(request.items_ids), 2), 0.5, np.float32) if self.answer is None else self.answer


def never() -> None:
    raise AssertionError("no call was slow")


def test_times_every_call() -> None:
    watchdog = Watchdog(60, never)
    sample = time_pass(FakeBackend(0.01), REQUESTS, watchdog)
    watchdog.close()
    assert [len(times) for times in sample.call_ns] == [3, 1]
    assert all(10_000_000 <= ns < 1_000_000_000 for times in sample.call_ns for ns in times)
    assert [scores.shape for scores in sample.scores] == [(6, 2), (1, 2)]


def test_short_calls_are_timed_together() -> None:
    watchdog = Watchdog(60, never)
    backend = FakeBackend(0.004)
    sample = time_pass(backend, REQUESTS, watchdog, repeats=5)
    watchdog.close()
    assert all(4_000_000 <= ns < 400_000_000 for times in sample.call_ns for ns in times), "the share of one call"
    assert backend.n_calls == 4 * 5 and [scores.shape for scores in sample.scores] == [(6, 2), (1, 2)]


@pytest.mark.parametrize(
    "answer", [np.zeros((1, 2), np.float32), np.zeros((2, 2), np.float64), [[0.5, 0.5]] * 2],
    ids=["shape", "dtype", "type"],
)  # fmt: skip
def test_answers_are_checked(answer) -> None:
    watchdog = Watchdog(60, never)
    with pytest.raises(ValueError, match=r"float32 array \(2, 2\)"):
        time_pass(FakeBackend(answer=answer), REQUESTS, watchdog)
    watchdog.close()


def test_watchdog_ends_what_python_cannot_interrupt() -> None:
    """A process stuck inside C code is ended at about its limit."""
    code = (
        "import os\nfrom scorematrix.measure import Watchdog\n"
        "w = Watchdog(0.5, lambda: os._exit(75))\n"
        "import ctypes\nwith w.limit():\n    ctypes.CDLL(None).sleep(1000)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], timeout=60)
    assert done.returncode == 75


def test_a_call_that_ends_while_it_is_given_up_goes_no_further() -> None:
    order, begun = [], threading.Event()

    def on_timeout() -> None:
        begun.set()
        time.sleep(0.2)
        order.append("recorded")

    with Watchdog(0.01, on_timeout).limit():
        begun.wait(60)
    order.append("went on")
    assert order == ["recorded", "went on"]


def test_a_machine_without_a_network_card_is_one_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """There uuid.getnode draws a number in every process: the rounds of a GPU VM came from eleven machines."""
    first = describe_environment().machine_sha256
    monkeypatch.setattr("uuid.getnode", lambda: 1)
    assert describe_environment().machine_sha256 == first


def test_environment_holds_no_names(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_secret_value")
    monkeypatch.setenv("XLA_FLAGS", "--xla_cpu_x=1")
    found = describe_environment().model_dump_json()
    assert "--xla_cpu_x=1" in found and "hf_secret_value" not in found
    for private in (os.uname().nodename, str(Path.home()), os.environ.get("USER") or "no such user"):
        assert f'"{private}"' not in found


def test_set_up_process_refuses_more_threads_than_cores() -> None:
    code = "from pathlib import Path; from scorematrix.measure import *; set_up_process('cpu', 999, Path('x'))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert "threads=999" in done.stderr


FAULTS = """
import resource, subprocess, sys
import numpy as np

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(5):
        np.ones(40 << 20, np.uint8)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

faults()
print(faults())
"""


@pytest.mark.parametrize(("variables", "kept"), [({}, True), ({"MALLOC_PERTURB_": "0"}, False)])
def test_freed_memory_is_kept_here_and_in_children_unless_the_user_configures_it(variables: dict, kept: bool) -> None:
    if platform.libc_ver()[0] != "glibc":
        pytest.skip("only glibc's allocator is configured")
    child = f"print(subprocess.run([sys.executable, '-c', {FAULTS!r}], capture_output=True, text=True).stdout)"
    code = "from scorematrix.measure.process import keep_freed_memory\nkeep_freed_memory()" + FAULTS + child
    own = {name: value for name, value in os.environ.items() if not name.startswith(("MALLOC_", "GLIBC_"))}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=own | variables)
    assert done.returncode == 0, done.stderr
    here, in_child = map(int, done.stdout.split())
    if kept:
        assert here < 50 and in_child < 50, "no page is returned and fetched again"
    else:
        assert here > 50, "this test would not notice if memory was returned"


def test_peak_memory_counts_what_was_given_back_and_forgets_it() -> None:
    memory = HostMemory()
    memory.reset()
    np.ones(40 << 20, np.uint8).sum()
    peak = memory.peak_bytes()
    if peak is None:
        pytest.skip("this system keeps no high-water mark of resident memory")
    assert 39 << 20 <= peak < 80 << 20
    memory.reset()
    assert memory.peak_bytes() < 20 << 20


def test_peak_memory_does_not_hide_behind_what_the_loader_held() -> None:
    held = np.ones(80 << 20, np.uint8)
    memory = HostMemory()
    del held
    memory.reset()
    np.ones(40 << 20, np.uint8).sum()
    peak = memory.peak_bytes()
    if peak is None:
        pytest.skip("this system keeps no high-water mark of resident memory")
    assert peak >= 39 << 20
