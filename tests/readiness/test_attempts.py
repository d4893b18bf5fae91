"""What was tried, by hand or by `provision`, stands in every summary until rounds arrive."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from scorematrix.compare import compare_run
from scorematrix.matrix import needed_targets
from scorematrix.readiness import check_readiness, load_written
from scorematrix.readiness.attempts import summed_up
from scorematrix.readiness.targets import target
from scorematrix.results import Attempt
from tests.conftest import ROOT, call_cli, report_of
from tests.factory import CPU_ONLY, make_params

STATUS = ROOT / "params" / "readiness" / "2026-02-12.yaml"
TINY = str(ROOT / "tests" / "fixtures" / "tiny.yaml")


def attempt(text: str = "", outcome: str = "refused", zone: str = "us-central1-b") -> Attempt:
    return Attempt(at_utc="2026-02-12", zone=zone, machine_type="g4-standard-48", outcome=outcome, text=text, name="sm",
                   teardown="gcloud compute instances delete sm")  # fmt: skip


QUOTA = attempt("Quota 'GPUS_PER_GPU_FAMILY' exceeded. Limit: 0.0 in region us-central1.")
AGAIN = "scorematrix provision params/provision/gpu_g4.yaml --execute"
ASK = "gpu_family=NVIDIA_RTX_PRO_6000,region=us-central1"
RUNS = "runs in us-central1-b as sm since 2026-02-12; refused before: quota"
STOCKOUT = attempt("ZONE_RESOURCE_POOL_EXHAUSTED", zone="us-east1-b")


@pytest.mark.parametrize(
    ("attempts", "reason", "evidence", "next_step"),
    [
        ([STOCKOUT, QUOTA], "quota", "us-east1-b, us-central1-b", ASK),
        ([QUOTA, STOCKOUT], "quota", "others: capacity", AGAIN),
        ([QUOTA], "quota", "us-central1-b", "limit of 0"),
        ([STOCKOUT], "capacity", "us-east1-b: ZONE_RESOURCE_POOL_EXHAUSTED", "other zones"),
        ([attempt("IAM_PERMISSION_DENIED"), QUOTA], "permission", "others: quota", "right"),
        ([attempt("it was created, reached STAGING, and vanished", "vanished")], "capacity", "vanished", "later"),
        ([QUOTA, attempt("", "running")], "no_device", RUNS, "EXTRAS=cuda"),
        ([attempt("", "begun")], "unknown", "sm", "`gcloud compute instances delete sm`"),
        ([attempt("deleting it failed", "half_made")], "unknown", "sm", "delete sm"),
    ],
    ids=lambda v: v if isinstance(v, str) else None,
)  # fmt: skip
def test_attempts_come_to_a_reason_and_a_next_step(attempts, reason: str, evidence: str, next_step: str) -> None:
    found = summed_up(target("gpu-g4"), attempts)
    assert found[0] == reason and evidence in found[1] and next_step in found[2], found


def test_the_status_that_this_project_started_from() -> None:
    """TPU to be had after one refusal for capacity; GPU blocked by a quota of 0."""
    readiness = check_readiness(needed_targets(make_params()), CPU_ONLY, "Test CPU", records=load_written(STATUS))
    tpu, gpu = readiness.state("tpu-v6e-1", "jax"), readiness.state("gpu-g4", "pytorch")
    assert "us-east5-a" in tpu.evidence and "capacity in us-east5-b" in tpu.evidence
    assert gpu.reason == "quota" and len(gpu.attempts) == 3 and "Limit: 0.0" in gpu.evidence
    assert {a.kind for a in gpu.attempts} == {"quota_region", "capacity_vm"}
    text = STATUS.read_text()
    assert "@" not in text and not re.search(r"projects/", text)


@pytest.mark.slow
@pytest.mark.usefixtures("report_here")
def test_it_renders_and_the_winner_is_deferred(tmp_path: Path) -> None:
    """A run of accelerators only, on a machine without any: nothing runs, and the report says what to do."""
    done = call_cli("run", TINY, "--run-id", "r", "--readiness", str(STATUS), "--report",
                   "--set", "comparisons=[{jax: tpu-v6e-1, pytorch: gpu-g4}]", cwd=tmp_path)  # fmt: skip
    assert done.returncode == 4, done.stdout + done.stderr
    page = " ".join(re.sub(r"<[^>]+>", " ", report_of(tmp_path / "outputs" / "runs" / "r")).split())
    for words in ("PARTIAL", "Limit: 0.0 in region us-central1", "quota", "us-east5-a", "DEFERRED",
                  "There is no more capacity in the zone",
                  "gcloud beta quotas preferences create", "make setup EXTRAS=tpu", "--merge"):  # fmt: skip
        assert words in page, words
    assert "SKIPPED GPU G4" in done.stdout and "quota" in done.stdout


def test_what_this_machine_has_needs_no_record() -> None:
    records = load_written(STATUS)
    cpu = check_readiness([("cpu", "jax", ["portable"])], CPU_ONLY, "Test CPU", records=records)
    assert cpu.states[0].state == "ready" and cpu.states[0].attempts == []


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("targets: {gpu-g5: []}", "'gpu-g4'"),
        ("targets: {gpu-g4: [{zone: us-central1-b}]}", "targets.gpu-g4.0.at"),
        ("targets: {gpu-g4: [{at: 2026-02-12, zone: here, machine_type: x}]}", "zone='here'"),
        ("targets: [", "YAML"),
    ],
)
def test_a_file_with_a_mistake_is_told(tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "r.yaml").write_text(text)
    with pytest.raises(ValueError, match=re.escape(words)):
        load_written(tmp_path / "r.yaml")


def test_notices_carry_the_attempts_to_every_summary() -> None:
    from tests.factory import make_run

    manifest, workload, _, rounds = make_run()
    readiness = check_readiness(needed_targets(make_params()), CPU_ONLY, "Test CPU", records=load_written(STATUS))
    comparison = compare_run(manifest, workload, readiness, rounds)
    assert [len(n.attempts) for n in comparison.notices] == [2, 3]
    assert all(c.verdict == "deferred" for c in comparison.contrasts if c.kind == "system")
