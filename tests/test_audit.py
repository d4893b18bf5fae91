"""`scorematrix audit`: the verdict with its evidence, for people and for programs."""

from __future__ import annotations

import json

import pytest

from scorematrix import load_backend
from scorematrix.audit import audit_backend
from scorematrix.models import load_model
from scorematrix.report.audits import audit_sentence
from tests.conftest import call_cli
from tests.faults.lies import LIES, LyingBackend

TINY = ("--model", "random:tiny-qwen3", "--device", "cpu", "--seconds", "0")


def test_every_view_is_audited_and_sound() -> None:
    done = call_cli("audit", "--backend", "transformers", *TINY, "--dtype", "float32")
    assert done.returncode == 0, done.stdout + done.stderr
    lines = done.stdout.strip().splitlines()[-3:]
    for view, line in zip(("per_item", "expanded_cache", "packed"), lines, strict=True):
        assert line.startswith(f"transformers {view}: SOUND") and " 10 " in line


@pytest.mark.parametrize(("backend", "view"), [("jax", "portable"), ("pytorch", "portable")])
def test_json_carries_the_evidence(backend: str, view: str) -> None:
    done = call_cli("audit", "--backend", backend, "--view", view, *TINY, "--json")
    (report,) = json.loads(done.stdout)
    assert (report["verdict"], report["view"], report["model"]) == ("sound", view, "random:tiny-qwen3")
    parity = next(gate for gate in report["gates"] if gate["name"] == "parity")
    assert 0 < parity["found"]["max"] <= parity["allowed"]["max"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--backend", "torch"], "'pytorch'"),
        (["--backend", "jax", "--view", "fast"], "view='fast'"),
        (["--backend", "jax", "--device", "gpu0"], "'--device': 'gpu0'"),
    ],
)
def test_mistakes_end_with_2(arguments: list[str], words: str) -> None:
    done = call_cli("audit", *arguments, "--model", "random:tiny-qwen3")
    assert done.returncode == 2 and words in done.stderr and len(done.stderr.strip().splitlines()) == 1


def test_what_was_found_before_a_break_stands() -> None:
    model = load_model("random:tiny-qwen3")
    sound = load_backend("pytorch", model=model, device="cpu", dtype="float32")
    report = audit_backend(LyingBackend(sound, LIES["breaks on many items"].answer), model, seconds=0)
    found = {gate.name: gate.status for gate in report.gates}
    assert found["form"] == "failed" and found["parity"] == "passed" and "neighbours" not in found


def test_sentences_name_what_failed_or_did_not_run(monkeypatch: pytest.MonkeyPatch) -> None:
    model = load_model("random:tiny-qwen3")
    sound = load_backend("pytorch", model=model, device="cpu", dtype="float32")
    lying = audit_sentence(
        audit_backend(LyingBackend(sound, LIES["neighbour leakage of 0.01"].answer), model, seconds=0)
    )
    assert lying.startswith("pytorch portable: UNSOUND") and "neighbours" in lying
    monkeypatch.setattr("scorematrix.audit.auditor.missing_packages", lambda name: ["transformers"])
    unproved = audit_backend(sound, model, seconds=0)
    assert unproved.verdict == "not_proved"
    assert all(word in audit_sentence(unproved) for word in ("NOT PROVED", "parity", "ranking"))
