"""Provisioning against a gcloud that plays real refusals, kills, time-outs and garbage."""

from __future__ import annotations

import json
import os
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from scorematrix.readiness import load_plan, provision
from scorematrix.results import Attempt, RecordStore
from tests.conftest import ROOT, call_cli, environment_of_users

FAKE = Path(__file__).with_name("fake_gcloud.py")
QUOTA = "ERROR: (gcloud) - Quota 'GPUS_PER_GPU_FAMILY' exceeded.  Limit: 0.0 in region {}."
STOCKOUT = "ERROR: the zone does not have enough resources available to fulfill it (ZONE_RESOURCE_POOL_EXHAUSTED)"
PLAN = """
target: gpu-g4
resource: instance
name: sm-test
machine_type: g4-standard-48
zones: [us-central1-b, us-central1-f, us-east1-b, us-east5-a]
create_timeout_seconds: 5
poll_seconds: 0.01
wait_seconds: 0.5
"""


@pytest.fixture
def play(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple]:
    """Run a plan against a script: what came of it, all attempts, and what gcloud was asked."""
    binary = tmp_path / "bin" / "gcloud"
    binary.parent.mkdir()
    binary.write_text(f'#!/bin/sh\nexec {sys.executable} {FAKE} "$@"\n')
    binary.chmod(binary.stat().st_mode | stat.S_IXUSR)
    script = tmp_path / "script.json"
    monkeypatch.setenv("PATH", f"{binary.parent}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("FAKE_GCLOUD", str(script))

    def run(answers: dict[str, list[dict]], plan: str = PLAN) -> tuple[Attempt | None, list[Attempt], list[str]]:
        script.write_text(json.dumps(answers))
        (tmp_path / "plan.yaml").write_text(plan)
        seen: list[Attempt] = []
        found = provision(load_plan(tmp_path / "plan.yaml"), seen.append, sleep=lambda s: None)
        calls = script.with_suffix(".calls")
        return (
            found,
            [a for a in seen if a.outcome != "begun"],
            calls.read_text().splitlines() if calls.exists() else [],
        )

    return run


def left_behind(tmp_path: Path) -> dict:
    return json.loads((tmp_path / "script.world").read_text())


def created(calls: list[str]) -> list[str]:
    return [
        word.split("=")[1]
        for call in calls
        if " create " in call
        for word in call.split()
        if word.startswith("--zone=")
    ]


def test_capacity_goes_to_the_next_zone_and_running_ends_it(play) -> None:
    found, attempts, calls = play({
        "create us-central1-b": [{"rc": 1, "text": STOCKOUT}],
        "create us-central1-f": [{"make": ["PROVISIONING", "STAGING", "RUNNING"]}],
    })  # fmt: skip
    assert found.zone == "us-central1-f" and [a.outcome for a in attempts] == ["refused", "running"]
    assert attempts[0].kind == "capacity_vm" and "enough resources" in attempts[0].text
    assert created(calls) == ["us-central1-b", "us-central1-f"]
    assert found.teardown == "gcloud compute instances delete sm-test --zone=us-central1-f --quiet"


def test_quota_goes_to_the_next_region_and_is_not_asked_again(play, tmp_path: Path) -> None:
    found, attempts, calls = play({
        "create us-central1-b": [{"rc": 1, "text": QUOTA.format("us-central1")}],
        "create us-east1-b": [{"rc": 1, "text": QUOTA.format("us-east1")}],
        "create us-east5-a": [{"rc": 1, "text": QUOTA.format("us-east5")}],
    })  # fmt: skip
    assert found is None and created(calls) == ["us-central1-b", "us-east1-b", "us-east5-a"]
    assert {a.kind for a in attempts} == {"quota_region"} and left_behind(tmp_path) == {}


@pytest.mark.parametrize("text", ["Quota 'GPUS_ALL_REGIONS' exceeded.  Limit: 0.0 globally.", "IAM_PERMISSION_DENIED"])
def test_what_no_zone_can_cure_stops(play, text: str) -> None:
    found, attempts, calls = play({"create us-central1-b": [{"rc": 1, "text": text}]})
    assert found is None and len(attempts) == 1 and created(calls) == ["us-central1-b"]


def test_a_machine_that_vanishes_after_staging_is_no_machine(play) -> None:
    found, attempts, _ = play({
        "create us-central1-b": [{"make": ["STAGING"]}],
        "describe us-central1-b": [{"rc": 0, "text": "STAGING"}, {"rc": 1, "text": "ERROR: sm-test was not found"}],
        "create us-central1-f": [{"make": ["RUNNING"]}],
    })  # fmt: skip
    assert found.zone == "us-central1-f"
    assert attempts[0].outcome == "vanished" and "STAGING" in attempts[0].text


def test_a_machine_that_never_runs_is_given_back(play, tmp_path: Path) -> None:
    plan = PLAN.replace("wait_seconds: 0.5", "wait_seconds: 0.001")
    found, attempts, calls = play({
        "create us-central1-b": [{"make": ["STAGING"]}],
        "create us-central1-f": [{"make": ["TERMINATED"]}],
        "create us-east1-b": [{"rc": 1, "text": "IAM_PERMISSION_DENIED"}],
    }, plan)  # fmt: skip
    assert found is None and left_behind(tmp_path) == {}
    assert [a.outcome for a in attempts] == ["refused"] * 3
    assert "STAGING" in attempts[0].text and "0.001 s" in attempts[0].text and "TERMINATED" in attempts[1].text
    assert sum(" delete " in call for call in calls) == 2


def test_what_cannot_be_given_back_is_named_and_ends_it(play) -> None:
    found, attempts, calls = play({
        "create us-central1-b": [{"rc": 1, "text": STOCKOUT, "make": ["PROVISIONING"]}],
        "delete us-central1-b": [{"rc": 1, "text": "ERROR: internal"}],
    })  # fmt: skip
    assert found is None and attempts[-1].outcome == "half_made" and created(calls) == ["us-central1-b"]
    assert "ERROR: internal" in attempts[-1].text and "delete sm-test" in attempts[-1].teardown


def test_a_refusal_that_left_a_half_made_machine_is_cleaned_up(play, tmp_path: Path) -> None:
    found, _, calls = play({
        "create us-central1-b": [{"rc": 1, "text": STOCKOUT, "make": ["PROVISIONING"]}],
        "create us-central1-f": [{"make": ["RUNNING"]}],
    })  # fmt: skip
    assert found.zone == "us-central1-f" and [key.split()[1] for key in left_behind(tmp_path)] == ["us-central1-f"]
    assert any("delete sm-test --zone=us-central1-b" in call for call in calls)


def test_a_create_that_hangs_is_ended_and_what_runs_is_taken(play) -> None:
    plan = PLAN.replace("create_timeout_seconds: 5", "create_timeout_seconds: 1")
    start = time.monotonic()
    found, attempts, _ = play({"create us-central1-b": [{"sleep": 60, "make": ["RUNNING"]}]}, plan)
    assert time.monotonic() - start < 30
    assert found.zone == "us-central1-b" and " 1 s" in attempts[0].text


def test_garbage_is_kept_and_the_next_zone_is_tried(play) -> None:
    found, attempts, _ = play({
        "create us-central1-b": [{"rc": 1, "bytes": "fffe00c3280a"}],
        "create us-central1-f": [{"rc": 137, "text": ""}],
        "create us-east1-b": [{"make": ["RUNNING"]}],
    })  # fmt: skip
    assert found.zone == "us-east1-b" and [a.kind for a in attempts[:2]] == ["unknown", "unknown"]


def test_preempted_is_tried_again_in_its_zone_but_not_for_ever(play) -> None:
    preempted = {"rc": 1, "text": "ERROR: ended while in state PREEMPTED"}
    found, _, calls = play({
        "create us-central1-b": [preempted, preempted],
        "create us-central1-f": [{"make": ["RUNNING"]}],
    })  # fmt: skip
    assert found.zone == "us-central1-f" and created(calls) == ["us-central1-b", "us-central1-b", "us-central1-f"]


def test_a_tpu_is_asked_for_as_a_tpu(play) -> None:
    plan = (ROOT / "params" / "provision" / "tpu_v6e_1.yaml").read_text()
    no_more = '{"code": 8, "message": "There is no more capacity in the zone \\"us-east5-b\\"; you can try"}'
    found, attempts, calls = play({
        "create us-east5-b": [{"rc": 1, "text": no_more}], "create us-east5-a": [{"make": ["CREATING", "READY"]}],
    }, plan)  # fmt: skip
    assert found.zone == "us-east5-a" and attempts[0].kind == "capacity_tpu"
    assert calls[0] == ("compute tpus tpu-vm create scorematrix-tpu-v6e-1 --zone=us-east5-b --accelerator-type=v6e-1 "
                        "--version=v2-alpha-tpuv6e --format=json --quiet")  # fmt: skip


def test_no_account_or_project_is_recorded(play) -> None:
    text = "ERROR: jane@example.com may not use projects/secret-project-1 (IAM_PERMISSION_DENIED)"
    _, attempts, _ = play({"create us-central1-b": [{"rc": 1, "text": text}]})
    assert "jane" not in attempts[0].text and "secret-project-1" not in attempts[0].text


@pytest.mark.parametrize("path", sorted((ROOT / "params" / "provision").glob("*.yaml")), ids=lambda p: p.stem)
def test_shipped_plans_are_sound_and_dry_by_default(path: Path, tmp_path: Path) -> None:
    done = call_cli("provision", str(path), cwd=tmp_path, PATH=str(tmp_path))
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) == len(load_plan(path).zones) + 1 and not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (("zones: [us-central1-b", "zones: [us-central1"), "zones.0='us-central1'"),
        (("target: gpu-g4", "target: gpu-g5"), "'gpu-g4'"),
        (("name: sm-test", "name: SM"), "name='SM'"),
        (("machine_type", "machine_typ"), "machine_typ"),
    ],
)
def test_bad_plans_are_told(tmp_path: Path, change: tuple[str, str], words: str) -> None:
    (tmp_path / "plan.yaml").write_text(PLAN.replace(*change))
    done = call_cli("provision", "plan.yaml", cwd=tmp_path)
    assert done.returncode == 2 and words in done.stderr and len(done.stderr.strip().splitlines()) == 1


def test_without_gcloud_one_line_says_so(tmp_path: Path) -> None:
    (tmp_path / "plan.yaml").write_text(PLAN)
    done = call_cli("provision", "plan.yaml", "--execute", cwd=tmp_path, PATH=str(tmp_path))
    assert done.returncode == 2 and "gcloud" in done.stderr and "PATH" in done.stderr


def test_a_killed_process_leaves_the_name_of_what_it_asked_for(play, tmp_path: Path) -> None:
    """SIGKILL while gcloud creates: the attempt is on record as begun, with its teardown command."""
    play({"create us-central1-b": [{"rc": 1, "text": "IAM_PERMISSION_DENIED"}]})  # makes the fake and the plan
    (tmp_path / "script.json").write_text(json.dumps({"create us-central1-b": [{"sleep": 60, "make": ["RUNNING"]}]}))
    (tmp_path / "plan.yaml").write_text(PLAN.replace("create_timeout_seconds: 5", "create_timeout_seconds: 50"))
    command = [sys.executable, "-m", "scorematrix", "provision", "plan.yaml", "--execute"]
    process = subprocess.Popen(command, cwd=tmp_path, env=environment_of_users(), stdout=subprocess.DEVNULL)
    records = RecordStore(tmp_path / "outputs")
    end = time.monotonic() + 60
    while not records.read() and time.monotonic() < end:
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.wait()
    (attempt,) = records.read()["gpu-g4"].attempts
    assert attempt.outcome == "begun" and "delete sm-test --zone=us-central1-b" in attempt.teardown


def test_the_command_records_every_attempt(play, tmp_path: Path) -> None:
    play({"create us-central1-b": [{"rc": 1, "text": "IAM_PERMISSION_DENIED"}]})
    answers = {"create us-central1-b": [{"rc": 1, "text": STOCKOUT}], "create us-central1-f": [{"make": ["RUNNING"]}]}
    (tmp_path / "script.json").write_text(json.dumps(answers))
    done = call_cli("provision", "plan.yaml", "--execute", cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    for word in ("gpu-g4", "us-central1-f", "sm-test", "gcloud compute instances delete"):
        assert word in done.stdout, word
    (tmp_path / "script.json").write_text(
        json.dumps({"create us-central1-b": [{"rc": 1, "text": "IAM_PERMISSION_DENIED"}]})
    )
    again = call_cli("provision", "plan.yaml", "--execute", cwd=tmp_path)
    assert again.returncode == 4 and "permission" in again.stdout
    attempts = RecordStore(tmp_path / "outputs").read()["gpu-g4"].attempts
    assert [a.outcome for a in attempts] == ["refused", "running", "refused"]
