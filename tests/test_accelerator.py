"""The stages of `scorematrix accelerator`: what each leaves on disk, after a kill too, and all of them on a CPU."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from scorematrix.accelerator import Stage, StageRecord, find_target, plan_stages, read_tests, run_stages
from scorematrix.readiness import TARGETS, Machine
from scorematrix.readiness.devices import FrameworkDevices
from scorematrix.results import read_document
from tests.conftest import QUICK_COMPILES, environment_of_users, real_time, report_of, run_cli


def python(name: str, code: str, limit_seconds: float = 60) -> Stage:
    return Stage(name, (sys.executable, "-c", code), limit_seconds)


def test_a_stage_that_fails_or_hangs_costs_itself_only(tmp_path: Path) -> None:
    stages = [
        python("first", "print('found')"),
        python("second", "raise SystemExit(3)"),
        python("third", "import time; time.sleep(600)", 0.5),
        python("fourth", "print('all the same')"),
    ]
    found = [(record.status, record.exit_code, kept) for record, kept in run_stages(stages, tmp_path)]
    assert found == [("ok", 0, False), ("failed", 3, False), ("timeout", -9, False), ("ok", 0, False)]
    assert (tmp_path / "fourth.log").read_text() == "all the same\n"
    (tmp_path / "second.xml").write_text("of an earlier call")
    begun = []
    again = [kept for _, kept in run_stages(stages[:2], tmp_path, begins=begun.append)]
    assert again == [True, False] and begun == stages[1:2], "what went well is not done again"
    assert not (tmp_path / "second.xml").exists()


KILLED = """
import signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)  # which a shell in the background has its children ignore
from pathlib import Path
from scorematrix.accelerator import Stage, run_stages
code = "import sys, time; print('begun', flush=True); time.sleep(600)"
first, second = "print('found')", code
stages = [Stage(n, (sys.executable, "-c", c), 99) for n, c in (("first", first), ("second", second))]
for record, kept in run_stages(stages, Path(sys.argv[1])): print(record.name, kept, flush=True)
"""


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
def test_killed_in_a_stage_it_keeps_those_before(how: signal.Signals, tmp_path: Path) -> None:
    started = subprocess.Popen([sys.executable, "-c", KILLED, str(tmp_path)], env=environment_of_users())
    log, deadline = tmp_path / "second.log", time.monotonic() + 60
    while not (log.is_file() and log.read_text()) and time.monotonic() < deadline:
        time.sleep(0.05)
    started.send_signal(how)
    started.wait(60)
    assert read_document(tmp_path / "first.json", StageRecord).status == "ok"
    assert not (tmp_path / "second.json").exists()
    goes_on = [python("first", "print('found')"), python("second", "print('now')")]
    assert [(r.status, kept) for r, kept in run_stages(goes_on, tmp_path)] == [("ok", True), ("ok", False)]


@pytest.mark.parametrize(
    ("nvidia", "jax", "expected"),
    [
        ((), (("cpu", "cpu"),), "cpu"),
        (("NVIDIA H200",), (("gpu", "NVIDIA H200"),), "gpu-h200"),
        (("NVIDIA RTX PRO 6000 Blackwell Server Edition",), (), "gpu-g4"),
        ((), (("tpu", "TPU v6 lite"),), "tpu-v6e-1"),
    ],
)
def test_a_machine_is_known_by_its_device(nvidia: tuple, jax: tuple, expected: str) -> None:
    machine = Machine(nvidia, "", "", False, {"jax": FrameworkDevices(jax)})
    assert find_target(machine).name == expected


def test_an_unknown_device_is_named() -> None:
    with pytest.raises(ValueError, match="NVIDIA GTX 1.*--target"):
        find_target(Machine(("NVIDIA GTX 1",), "", "", False, {}))


@pytest.mark.parametrize("name", TARGETS)
def test_the_stages_of_every_target_name_it(name: str, tmp_path: Path) -> None:
    stages = {stage.name: stage for stage in plan_stages(TARGETS[name], tmp_path / "a" / name, "r")}
    assert list(stages) == ["machine", "tests", "run", "report"]
    assert stages["tests"].environment == {"SCOREMATRIX_TEST_DEVICE": TARGETS[name].kind}
    assert f"jax: {name}," in " ".join(stages["run"].command)


def test_the_tests_file_is_read(tmp_path: Path) -> None:
    case = '<testcase name="{}"><properties>{}</properties>{}</testcase>'
    said = '<property name="engine" value="jax best_native"/><property name="distance" value="{}"/>'
    said += '<property name="allowed" value="0.5"/>'
    cases = [("a", said.format(0.1), ""), ("b", said.format(0.3), ""), ("c", "", "<failure/>"), ("d", "", "<skipped/>")]
    (tmp_path / "t.xml").write_text(f"<suite>{''.join(case.format(*one) for one in cases)}</suite>")
    found = read_tests(tmp_path / "t.xml")
    assert found is not None and found.counts == {"passed": 2, "failed": 1, "skipped": 1} and found.failed == ["c"]
    assert found.distances == {"jax best_native": (0.3, 0.5)} and read_tests(tmp_path / "none.xml") is None


@real_time  # processes beside it can make the timed passes unsteady
@pytest.mark.slow
@pytest.mark.chaos
@pytest.mark.timeout(900)
def test_every_stage_runs_on_a_cpu(tmp_path: Path) -> None:
    done = run_cli("accelerator", "--target", "cpu", cwd=tmp_path, **QUICK_COMPILES)
    folder = tmp_path / "outputs" / "accelerator" / "cpu"
    ends = {p.stem: json.loads(p.read_text())["status"] for p in folder.glob("*.json")}
    assert ends == dict.fromkeys(("machine", "tests", "run", "report"), "ok"), done.stdout
    assert done.returncode == 0 and len(done.stdout.splitlines()) <= 60
    for words in ("device tests", "jax best_native", "pytorch portable bfloat16", "of peak", "no winner"):
        assert words in done.stdout, words
    assert report_of(tmp_path / "outputs" / "runs" / "first-cpu")
