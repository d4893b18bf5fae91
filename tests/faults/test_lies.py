"""Every lie of the catalogue is caught by the gate that names it; sound backends raise no alarm."""

from __future__ import annotations

import pytest

from scorematrix import load_backend
from scorematrix.audit import audit_backend
from scorematrix.models import Model, load_model
from tests.faults.lies import LIES, LyingBackend, other_weights


@pytest.fixture(scope="module")
def model() -> Model:
    return load_model("random:tiny-llama", seed=11)


@pytest.fixture(scope="module")
def sound(model: Model):
    return load_backend("pytorch", view="portable", model=model, device="cpu", dtype="float32")


@pytest.mark.parametrize("name", LIES)
def test_lie_is_caught_and_named(name: str, model: Model, sound) -> None:
    lie = LIES[name]
    report = audit_backend(LyingBackend(sound, lie.answer), model, seconds=0)
    failed = {gate.name: gate.detail for gate in report.gates if gate.status == "failed"}
    assert report.verdict == "unsound" and lie.gate in failed, failed
    assert lie.words in failed[lie.gate]


def test_a_wrong_weight_layer_is_caught(model: Model) -> None:
    backend = load_backend("pytorch", view="portable", model=other_weights(model), device="cpu", dtype="float32")
    report = audit_backend(backend, model, seconds=0)
    assert "parity" in {gate.name for gate in report.gates if gate.status == "failed"}


@pytest.mark.parametrize("seed", range(20))
def test_sound_backend_raises_no_alarm(seed: int, model: Model, sound) -> None:
    report = audit_backend(sound, model, seed=seed, seconds=0)
    assert report.verdict == "sound", [gate for gate in report.gates if gate.status != "passed"]
