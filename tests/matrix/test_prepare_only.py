"""A prepared run whose rounds somebody else executes, with plain papermill; each once, and those of the plan only."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from scorematrix.matrix import RoundInSteps
from scorematrix.matrix.draft import Draft
from scorematrix.results import RunStore
from tests.conftest import call_cli, environment_of_users
from tests.factory import write_run

PARAMS = str(Path(__file__).parents[1] / "fixtures" / "tiny.yaml")


def test_nothing_is_measured_and_every_ready_round_has_its_command(tmp_path: Path) -> None:
    done = call_cli("run", PARAMS, "--run-id", "p", "--prepare-only", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    store = RunStore(tmp_path / "outputs" / "runs" / "p")
    commands = [shlex.split(line) for line in done.stdout.splitlines()]
    ready = [p for p in store.manifest().plan if store.readiness().skip(p.target, p.backend) is None]
    assert len(commands) == len(ready) > 0 and store.rounds() == []
    for command, planned in zip(commands, sorted(ready, key=lambda p: p.position), strict=True):
        given = dict(zip(command[command.index("-p") + 1 :: 3], command[command.index("-p") + 2 :: 3], strict=True))
        assert command[0] == "papermill" and Path(given["run_dir"]) == store.folder.resolve()
        assert (given["backend"], given["role"], given["index"]) == (planned.backend, planned.role, str(planned.index))


def test_what_measures_is_refused_beside_it(tmp_path: Path) -> None:
    done = call_cli("run", PARAMS, "--prepare-only", "--report", cwd=tmp_path)
    assert done.returncode == 2 and "--prepare-only" in done.stderr and "--report" in done.stderr
    assert not (tmp_path / "outputs").exists()


@pytest.mark.slow
def test_plain_papermill_records_a_round(tmp_path: Path) -> None:
    done = call_cli("run", PARAMS, "--run-id", "p", "--prepare-only", cwd=tmp_path)
    command = shlex.split(done.stdout.splitlines()[0])
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    executed = subprocess.run(command, cwd=tmp_path, env=os.environ | {"PATH": path}, capture_output=True, text=True)
    assert executed.returncode == 0, executed.stderr[-2000:]
    (round_,) = RunStore(tmp_path / "outputs" / "runs" / "p").rounds()
    assert all(cell.status == "ok" for cell in round_.cells) and round_.alone_because


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({}, "round jax.portable.cpu.r01 is recorded.*--retry-failed"),
        ({"index": 99}, "index=99 is not in this run's plan"),
        ({"backend": "jaxx"}, "backend='jaxx' is not in this run's plan; it has .*jax"),
        ({"role": "reference"}, "jax.portable.cpu.reference.r01 is not in this run's plan"),
    ],
)
def test_a_round_is_recorded_once_and_only_if_planned(change: dict, message: str, tmp_path: Path) -> None:
    store = write_run(tmp_path / "run")
    before = {path: path.read_bytes() for path in store.folder.rglob("*.json")}
    planned = next(p for p in store.manifest().plan if p.name == "jax.portable.cpu.r01")
    with pytest.raises(ValueError, match=message):
        RoundInSteps(store.folder, planned.model_copy(update=change))
    assert {path: path.read_bytes() for path in store.folder.rglob("*.json")} == before


STEPS = """
import sys
from scorematrix.matrix import RoundInSteps
from scorematrix.results import PlannedRound
planned = PlannedRound(index=1, role="confirm", backend="pytorch", view="portable", target="cpu", position=1)
steps = RoundInSteps(sys.argv[1], planned)
for step in (steps.load, steps.prepare, steps.warm_up, steps.measure):
    step()
    print(steps._order["do"])
"""


def test_no_timed_order_waits_between_two_steps(tmp_path: Path) -> None:
    """The conductor's clock would count the time between two cells of the notebook."""
    store = write_run(tmp_path / "run", keep=lambda planned: False)
    command = [sys.executable, "-c", STEPS, str(store.folder)]
    done = subprocess.run(command, env=environment_of_users(), capture_output=True, text=True, timeout=120)
    assert done.stdout.split() == ["prepare", "warm_up", "ping", "settle"], done.stderr


def test_a_round_that_does_not_load_belongs_to_its_group(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It was alive beside the others, which is no overlap of rounds that should have run alone."""

    def fails(_: Draft) -> None:
        raise RuntimeError("no such weights")

    monkeypatch.setattr(Draft, "load", fails)
    monkeypatch.setattr("scorematrix.matrix.round.set_up_process", lambda *_: None)
    store = write_run(tmp_path / "run", keep=lambda planned: False)
    cases = [("/nowhere/9df29daa0bde", "9df29daa0bde"), ("", None)]
    for planned, (conductor, group) in zip(store.manifest().plan, cases, strict=False):
        steps = RoundInSteps(store.folder, planned, conductor)
        assert "no such weights" in steps.load()
        assert steps.record().group == group
