"""Both engines on this machine's accelerator, against one sequence an item in float32 on the CPU.

`pytest -m gpu` on a GPU, `pytest -m tpu` on a TPU. SCOREMATRIX_TEST_DEVICE=cpu rehearses them.
"""

from __future__ import annotations

import functools
import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from scorematrix import ScoreRequest, load_backend
from scorematrix.models import Model, load_model
from scorematrix.scoring import Backend
from scorematrix.scoring.forms import time_forms

FOUND = "tpu" if next(Path("/dev").glob("accel*"), None) else "gpu" if Path("/dev/nvidiactl").exists() else None
DEVICE = os.environ.get("SCOREMATRIX_TEST_DEVICE", FOUND)
pytestmark = [
    pytest.mark.tpu if DEVICE == "tpu" else pytest.mark.gpu,
    pytest.mark.skipif(DEVICE is None, reason="this machine has no /dev/nvidiactl and no /dev/accel*"),
]
FRAMEWORKS = [
    name for name, package in (("jax", "jax"), ("pytorch", "torch")) if importlib.util.find_spec(package) is not None
]
if DEVICE == "tpu":
    FRAMEWORKS = ["jax"]
KERNELS = {"gpu": "cudnn", "tpu": "pallas"}.get(str(DEVICE))
on_cuda = pytest.mark.skipif(DEVICE != "gpu", reason=f"it asks CUDA, and these are tests of device={DEVICE}")
LENGTHS = [5, 40, 1, 9, 9, 9, 3, 70, 2, 130]
# Largest distance of a probability from the exact one: float32 of true float32 products, bfloat16 of 8 bits each.
TOLERANCES = {"float32": 2e-5, "bfloat16": 0.05}
MODELS = {
    "biases": "random:tiny-qwen2",
    "norms of heads": "random:tiny-qwen3",
    "three heads a key head": "random:smollm2-135m",
}
if DEVICE == "cpu":  # these are proved elsewhere: one is enough to see that every test runs
    MODELS = dict.fromkeys(MODELS, "random:tiny-qwen3")


@functools.cache
def model_of(name: str) -> Model:
    return load_model(name, seed=11)


@functools.cache
def request_of(name: str, n_query: int = 50, lengths: tuple[int, ...] = tuple(LENGTHS)) -> ScoreRequest:
    rng, vocab = np.random.default_rng(n_query), model_of(name).config.vocab_size
    items = [rng.integers(0, vocab, n).tolist() for n in lengths]
    return ScoreRequest(rng.integers(0, vocab, n_query).tolist(), items, [3, 200])


@functools.cache
def exact(name: str, request: ScoreRequest) -> np.ndarray:
    return load_backend("scorematrix.scoring.numpy_decoder:PerItem", model=model_of(name)).score(request)


@functools.cache
def engine(framework: str, view: str, name: str, dtype: str, reuse_prefix: int = 0) -> Backend:
    """Loaded once for all tests: compiling is most of their time."""
    return load_backend(
        framework, view=view, model=model_of(name), device=DEVICE, dtype=dtype, reuse_prefix=reuse_prefix
    )


def distance(backend: Backend, name: str, request: ScoreRequest) -> float:
    return float(np.abs(backend.score(request) - exact(name, request)).max())


@pytest.mark.parametrize("dtype", TOLERANCES)
@pytest.mark.parametrize("view", ["portable", "best_native"])
@pytest.mark.parametrize("framework", FRAMEWORKS)
@pytest.mark.parametrize("name", dict.fromkeys(MODELS.values()))
def test_scores_are_exact(
    name: str, framework: str, view: str, dtype: str, record_property: Callable[[str, object], None]
) -> None:
    backend = engine(framework, view, name, dtype)
    found = max(distance(backend, name, request_of(*one)) for one in ((name,), (name, 300, (20,) * 12)))
    for key, value in {
        "engine": f"{framework} {view} {dtype}",
        "distance": found,
        "allowed": TOLERANCES[dtype],
    }.items():
        record_property(key, value)
    assert found <= TOLERANCES[dtype]


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_in_steps_and_with_a_kept_query(framework: str) -> None:
    name = MODELS["norms of heads"]
    backend = engine(framework, "best_native", name, "bfloat16", reuse_prefix=1)
    backend._step_tokens = 60
    first, second = request_of(name), request_of(name, 40)
    backend.prepare([first])
    for request in (first, first, second, first):
        assert distance(backend, name, request) <= TOLERANCES["bfloat16"]


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_recorded_or_not_twenty_calls_give_the_same(framework: str) -> None:
    """PyTorch's steps are launched kernel by kernel before `prepare` and as CUDA graphs after it."""
    name = MODELS["three heads a key head"]
    backend, request = engine(framework, "best_native", name, "bfloat16"), request_of(name, 200, (20,) * 40)
    before = backend.score(request)
    backend.prepare([request])
    assert backend.info.fallbacks == ()
    for _ in range(20):
        assert np.array_equal(backend.score(request), before)


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_nothing_is_compiled_again_within_a_bucket(framework: str) -> None:
    name = MODELS["norms of heads"]
    backend = engine(framework, "best_native", name, "bfloat16")
    backend.score(request_of(name, 250, (20,) * 30))
    n_events = len(backend.compile_events)
    backend.score(request_of(name, 249, (20,) * 29 + (19,)))
    assert len(backend.compile_events) == n_events


PLAIN = {"jax": "large_tiles", "pytorch": "flash"}
CANDIDATES = {
    "gpu": [
        ("jax", "cudnn"),
        ("pytorch", "cudnn"),
        ("pytorch", "flash_joined"),
        ("pytorch", "flex"),
        ("pytorch", "efficient"),
    ],
    "tpu": [("jax", "pallas")],
    "cpu": [("jax", "tiles"), ("jax", "pallas_interpreted")],
}.get(str(DEVICE), [])
"""Forms of attention that the device has beside the plain one."""


def engine_of_form(framework: str, form: str, monkeypatch: pytest.MonkeyPatch) -> Backend:
    monkeypatch.setattr(f"scorematrix.scoring.{framework}.best_native.attention_forms", lambda *_: (form,))
    model = model_of(MODELS["three heads a key head"])
    backend = load_backend(framework, view="best_native", model=model, device=DEVICE, dtype="bfloat16")
    assert backend.info.settings["attention"] == form
    return backend


@pytest.mark.parametrize(("framework", "form"), [one for one in CANDIDATES if one[0] in FRAMEWORKS])
def test_every_form_of_attention_agrees_with_the_plain_one(
    framework: str, form: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not farther from it than bfloat16's noise."""
    request = request_of(MODELS["three heads a key head"], 300, (20, 3, 90, 200, 31, 33))
    plain = engine_of_form(framework, PLAIN[framework], monkeypatch).score(request)
    assert np.abs(engine_of_form(framework, form, monkeypatch).score(request) - plain).max() <= 0.02


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_the_forms_of_attention_are_timed(framework: str) -> None:
    ours = engine(framework, "best_native", MODELS["three heads a key head"], "bfloat16")
    found = time_forms(ours, request_of(MODELS["three heads a key head"], 300, (20,) * 64))
    assert list(found) == list(ours.attention_forms if len(ours.attention_forms) > 1 else [])
    assert [error for error in found.values() if isinstance(error, str)] == []


@pytest.mark.skipif(KERNELS is None, reason="a CPU has plain operations only")
@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_an_engine_takes_the_kernels_of_its_device(framework: str) -> None:
    ours = engine(framework, "best_native", MODELS["three heads a key head"], "bfloat16")
    assert ours.info.settings["attention"] == KERNELS


@on_cuda
def test_memory_comes_back_after_a_failed_allocation() -> None:
    import torch

    name = MODELS["three heads a key head"]
    backend, request = engine("pytorch", "best_native", name, "bfloat16"), request_of(name)
    backend.score(request)
    held = torch.cuda.memory_allocated()
    with pytest.raises(torch.OutOfMemoryError):
        torch.empty(1 << 42, device="cuda")
    assert distance(backend, name, request) <= TOLERANCES["bfloat16"]
    assert torch.cuda.memory_allocated() == held


@on_cuda
def test_nothing_is_left_to_do_when_a_call_returns() -> None:
    import torch

    name = MODELS["three heads a key head"]
    backend, request = engine("pytorch", "best_native", name, "bfloat16"), request_of(name, 200, (20,) * 40)
    for _ in range(5):
        scores = backend.score(request)
        assert isinstance(scores, np.ndarray) and torch.cuda.current_stream().query()


PROCESS = """
import json, sys
import numpy as np
from scorematrix import ScoreRequest, load_backend
from scorematrix.models import load_model
request = ScoreRequest(**json.loads(sys.argv[2]))
model = load_model("random:tiny-qwen3", seed=11)
backend = load_backend(sys.argv[1], view="best_native", model=model, device=sys.argv[3])
for _ in sys.stdin:
    print(json.dumps(backend.score(request).tolist()), flush=True)
"""


@pytest.mark.skipif(DEVICE == "tpu", reason="a TPU has one process at a time")
def test_two_processes_take_turns_on_one_device() -> None:
    name = "random:tiny-qwen3"
    request = request_of(name, 30)
    text = json.dumps({"query_ids": request.query_ids, "items_ids": request.items_ids, "label_ids": request.label_ids})
    started = [
        subprocess.Popen(
            [sys.executable, "-c", PROCESS, framework, text, str(DEVICE)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for framework in FRAMEWORKS
    ]
    try:
        for _ in range(3):
            for process in started:
                assert process.stdin is not None and process.stdout is not None
                print(file=process.stdin, flush=True)
                scores = np.array(json.loads(process.stdout.readline()))
                assert np.abs(scores - exact(name, request)).max() <= TOLERANCES["bfloat16"]
    finally:
        for process in started:
            process.communicate()
    assert [process.returncode for process in started] == [0, 0]
