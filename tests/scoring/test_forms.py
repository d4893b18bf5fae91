"""Forms of attention are timed against each other; one that fails or is wrong is named and never chosen."""

from __future__ import annotations

import time

import numpy as np
import pytest

from scorematrix import ScoreRequest, load_backend
from scorematrix.compare import compare_run
from scorematrix.matrix import Choice
from scorematrix.matrix.orchestrate import as_tuned
from scorematrix.models import load_model
from scorematrix.results import FormTime, PlannedRound, Round
from scorematrix.scoring.forms import time_forms
from tests.conftest import real_time
from tests.factory import changed, make_params, make_run

REQUEST = ScoreRequest([1, 2, 3] * 20, [[4, 5], [6], [7, 8, 9]], [3, 200])
FORMS = {"jax": ("tiles", "large_tiles"), "pytorch": ("flash", "efficient")}


class Engine:
    """Sleeps as long as its form takes."""

    attention_forms = ("first", "slow", "quick", "wrong", "broken")

    def __init__(self, form: str = "first") -> None:
        self.form, self.prepared = form, 0

    def with_attention(self, form: str) -> Engine:
        return Engine(form)

    def prepare(self, requests: list[ScoreRequest]) -> None:
        if self.form == "broken":
            raise RuntimeError("no kernel image")

    def score(self, request: ScoreRequest) -> np.ndarray:
        time.sleep({"first": 0.01, "slow": 0.03, "quick": 0.002}.get(self.form, 0.0))
        return np.full((3, 2), 0.9 if self.form == "wrong" else 0.5, np.float32)


@real_time
def test_each_form_is_timed_and_a_wrong_or_broken_one_says_why() -> None:
    found = time_forms(Engine(), REQUEST)
    assert list(found) == list(Engine.attention_forms)
    assert found["quick"] < found["first"] < found["slow"]
    assert "first" in found["wrong"] and "0.4" in found["wrong"] and "no kernel image" in found["broken"]


@pytest.mark.parametrize("framework", FORMS)
def test_engines_switch_forms_on_the_same_weights(framework: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """PyTorch has no memory-efficient attention on a CPU: the error is recorded, the engine goes on."""
    forms = FORMS[framework]
    monkeypatch.setattr(f"scorematrix.scoring.{framework}.best_native.attention_forms", lambda *_: forms)
    model = load_model("random:tiny-qwen3", seed=11)
    options = {"view": "best_native", "model": model, "device": "cpu", "dtype": "float32"}
    backend = load_backend(framework, **options)
    before = backend.score(REQUEST)
    found = time_forms(backend, REQUEST)
    assert list(found) == list(forms) and found[forms[0]] > 0
    assert isinstance(found[forms[1]], str) == (framework == "pytorch")
    other = backend.with_attention(forms[1])
    assert other._weights is backend._weights and backend.info.settings["attention"] == forms[0]
    assert load_backend(framework, attention=forms[1], **options).info.settings["attention"] == forms[1]
    assert other.info.settings["attention"] == forms[1] and np.array_equal(backend.score(REQUEST), before)
    if framework == "jax":
        assert np.abs(other.score(REQUEST) - before).max() <= 2e-6
    with pytest.raises(ValueError, match=f"attention='none'.*{forms[0]}, {forms[1]}"):
        load_backend(framework, attention="none", **options)
    for other in ({"view": "portable"}, {"mesh": "data=2"}):
        with pytest.raises(ValueError, match=f"attention='{forms[0]}'.*best_native"):
            load_backend(framework, attention=forms[0], **options | other)


def test_flex_attention_is_flash_attention() -> None:
    """Uncompiled, as PyTorch compiles its log-sum-exp on accelerators only: the device tests do that."""
    import torch

    from scorematrix.scoring.pytorch import kernels

    torch.manual_seed(1)
    for n_rows, n_keys, causal in ((70, 33, False), (64, 64, True), (40, 90, False)):
        q_tnh, keys_qkh, values_qkh = torch.randn(n_rows, 4, 32), *torch.randn(2, n_keys, 2, 32)
        with torch.inference_mode():
            found, expected = (
                kernels.attend(q_tnh, keys_qkh, values_qkh, causal=causal, form=form) for form in ("flex", "flash")
            )
        for one, other in zip(found, expected, strict=True):
            assert one.shape == other.shape and (one - other).abs().max() <= 1e-5


@pytest.mark.parametrize("scores", [2**20, 2**15], ids=["one block", "many blocks"])
@pytest.mark.parametrize(
    ("n_rows", "n_keys", "causal"),
    [
        (300, 300, True),
        (1100, 1100, True),
        (2049, 2049, True),
        (129, 700, False),
        (1300, 257, False),
        (1, 2**16, False),
    ],
)
def test_attention_by_products_is_flash_attention(
    n_rows: int, n_keys: int, causal: bool, scores: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    from scorematrix.scoring.pytorch import kernels

    monkeypatch.setattr(kernels, "MOST_SCORES", scores)
    torch.manual_seed(1)
    q_tnh, keys_qkh, values_qkh = 2 * torch.randn(n_rows, 6, 32), *torch.randn(2, n_keys, 2, 32)
    with torch.inference_mode():
        found, expected = (
            kernels.attend(q_tnh, keys_qkh, values_qkh, causal=causal, form=form) for form in ("products", "flash")
        )
    for one, other in list(zip(found, expected, strict=True))[: 1 if causal else 2]:
        assert one.shape == other.shape and (one - other).abs().max() <= 3e-5
        assert n_rows == 1 or one.stride() == other.stride(), "programs are compiled for strides"


def test_a_cpu_has_nothing_to_choose() -> None:
    backend = load_backend("jax", view="best_native", model="random:tiny-llama", device="cpu")
    assert time_forms(backend, REQUEST) == {} == time_forms(load_backend("numpy", model="random:tiny-llama"), REQUEST)


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [((1.0, 0.9, None), "b"), ((1.0, 0.99, None), None), ((None, 3.0, 2.0), "c"), ((1.0, 2.0, 3.0), None)],
)
def test_tuning_chooses_a_form_that_is_surely_faster(seconds: tuple, expected: str | None) -> None:
    """A per cent between two forms is noise: then the engine's own choice stays."""
    forms = [
        FormTime(form=name, seconds=s, error=None if s else "boom") for name, s in zip("abc", seconds, strict=True)
    ]

    def edit(round_: Round) -> Round:
        timed = round_.role == "tuning" and round_.backend == "jax"
        return changed(round_, forms=[one.model_dump() for one in forms]) if timed else round_

    one = {"comparisons": [{"jax": "cpu", "pytorch": "cpu"}]}
    comparison = compare_run(*make_run(make_params(**one), edit=edit))
    sides = {side.backend: side for side in comparison.sides}
    assert sides["jax"].attention == expected and sides["jax"].forms == forms
    assert sides["pytorch"].attention is None and sides["pytorch"].forms == []
    assert sides["jax"].form_times.split()[0] == (expected or "a") and sides["pytorch"].form_times == ""


def test_what_tuning_chose_is_what_confirmation_rounds_use() -> None:
    tuning, confirm, control = (
        PlannedRound(index=i, role=role, backend="pytorch", view="best_native", target="gpu-h100", position=i)
        for i, role in enumerate(("tuning", "confirm", "control"))
    )
    chosen = {("pytorch", "best_native", "gpu-h100"): Choice(32, None, "flash_joined")}
    rounds, sizes = as_tuned([tuning, confirm, control], lambda: chosen)
    assert [one.attention for one in rounds] == [None, "flash_joined", "flash_joined"]
    assert set(sizes.values()) == {32}
