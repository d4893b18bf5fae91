"""Every in-process backend against transformers in float32, one sequence per item."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable

import numpy as np
import pytest

from scorematrix import ScoreRequest, load_backend
from scorematrix.models import Model, load_model
from scorematrix.scoring.profiles import profile_call
from scorematrix.scoring.pytorch import products
from scorematrix.scoring.pytorch.compiles import COUNTS
from scorematrix.workload import text_workload
from tests.parity.reference import hf_from_tree, reference_scores

Engine = tuple[str, str]
CAP = 2e-5
# Every architecture, both softmaxes and every chunk size, not each with each: every shape of a chunk is compiled.
ALL_CHUNKS, SOME_CHUNKS = (1, 2, 3, 8, 64), (3, 64)


def tiny_request(apply_softmax: bool = True) -> ScoreRequest:
    """Ragged items: one token, many tokens, lengths that repeat and that do not."""
    rng = np.random.default_rng(5)
    items = [rng.integers(0, 256, size=n).tolist() for n in (1, 7, 3, 3, 19, 2, 11, 1, 5, 8, 13)]
    return ScoreRequest(rng.integers(0, 256, size=37).tolist(), items, [17, 3, 201], apply_softmax)


def chunked_scores(backend, request: ScoreRequest, chunk_size: int) -> np.ndarray:
    return np.concatenate([backend.score(call) for call in request.chunks(chunk_size)])


@pytest.mark.parametrize("apply_softmax", [True, False], ids=["softmax", "vocabulary"])
def test_random_models_agree(tiny: Model, engine: Engine, load, apply_softmax: bool) -> None:
    request = tiny_request(apply_softmax)
    expected = reference_scores(hf_from_tree(tiny), request)
    backend = load(engine, tiny)
    for chunk_size in ALL_CHUNKS if apply_softmax and tiny.config.has_qk_norm else SOME_CHUNKS:
        assert np.abs(chunked_scores(backend, request, chunk_size) - expected).max() <= CAP, f"chunk {chunk_size}"
    assert expected.std(axis=0).max() > 1e-3, "the reference's scores must differ between items"


def test_long_positions_use_rope_scaling(engine: Engine, load, tiny_llama: Model) -> None:
    """Beyond the original 64 positions llama3 scaling matters: without it the scores must be far off."""
    rng = np.random.default_rng(6)
    items = [rng.integers(0, 256, 5).tolist() for _ in range(4)]
    request = ScoreRequest(rng.integers(0, 256, 200).tolist(), items, [1, 2])
    expected = reference_scores(hf_from_tree(tiny_llama), request)
    backend = load(engine, tiny_llama)
    assert np.abs(backend.score(request) - expected).max() <= CAP
    plain = dataclasses.replace(tiny_llama, config=dataclasses.replace(tiny_llama.config, rope_scaling=None))
    unscaled = load(engine, plain)
    assert np.abs(unscaled.score(request) - expected).max() > 10 * CAP


@pytest.fixture(scope="session")
def tiny_llama() -> Model:
    return load_model("random:tiny-llama", seed=11)


@pytest.fixture(scope="session")
def hf_net(smollm2: Model):
    """Of the session: one process asks engine after engine and comes back to this module each time."""
    return hf_from_tree(smollm2)


Shipped = Callable[[int], tuple[ScoreRequest, np.ndarray]]
N_SHIPPED = 10


@pytest.fixture(scope="session")
def shipped(smollm2: Model, hf_net) -> Shipped:
    """The first items of every shipped query, with the reference from transformers' own reading of the file."""
    workload = text_workload("yes_no", smollm2.tokenizer, items_per_query=2)
    requests = list(workload.score_requests())
    assert len(requests) == N_SHIPPED
    return functools.cache(lambda i: (requests[i], reference_scores(hf_net, requests[i])))


@pytest.mark.chaos
def test_shipped_data_set_agrees(engine: Engine, load, smollm2: Model, shipped: Shipped) -> None:
    """`make test` scores the first of these items in the two tests below, and in the real run."""
    backend = load(engine, smollm2)
    for request, expected in map(shipped, range(N_SHIPPED)):
        assert np.abs(backend.score(request) - expected).max() <= CAP


def test_vocabulary_probabilities_agree_on_the_real_model(engine: Engine, load, smollm2: Model, hf_net) -> None:
    workload = text_workload("yes_no", smollm2.tokenizer, n_queries=1, items_per_query=4, apply_softmax=False)
    (request,) = workload.score_requests()
    expected = reference_scores(hf_net, request)
    backend = load(engine, smollm2)
    scores = backend.score(request)
    assert np.abs(scores - expected).max() <= CAP
    assert (scores.sum(axis=1) < 1).all(), "labels' share of the vocabulary is below 1"


@pytest.mark.usefixtures("inductor")
@pytest.mark.parametrize("engine", [("pytorch", "best_native")], ids="-".join)
@pytest.mark.parametrize(("dtype", "cap"), [("float32", CAP), pytest.param("bfloat16", 0.06, marks=pytest.mark.chaos)])
def test_what_inductor_compiles_agrees(engine: Engine, dtype: str, cap: float) -> None:
    model, request = load_model("random:tiny-qwen3", seed=11), tiny_request()
    backend = load_backend(engine[0], view=engine[1], model=model, device="cpu", dtype=dtype)
    before = COUNTS.made + COUNTS.loaded
    found = chunked_scores(backend, request, 8)
    assert np.abs(found - reference_scores(hf_from_tree(model), request)).max() <= cap
    assert backend.compile_events and COUNTS.made + COUNTS.loaded > before, "else the fixture would do nothing"
    n_known = len(backend.compile_events)
    for n_query, n_items in ((2, 1), (3, 2), (64, 1), (129, 11)):
        other = dataclasses.replace(request, query_ids=[7] * n_query, items_ids=request.items_ids[:n_items])
        assert np.abs(backend.score(other) - reference_scores(hf_from_tree(model), other)).max() <= cap
    assert len(backend.compile_events) == n_known, "one program serves all lengths"
    profile = profile_call(backend, model.config, request)
    assert profile and next(part for part in profile.parts if part.part == "linear").n


# PyTorch's CPU kernels round every product's result to bfloat16 and its flash kernel takes rounded queries and keys:
# its best-native view keeps rule 32's caps, the others half of them.
BFLOAT16_CAPS = {("pytorch", "best_native"): (0.01, 0.06)}


@pytest.mark.parametrize("view", ["portable", "best_native"])
@pytest.mark.parametrize("name", ["jax", "pytorch"])
@pytest.mark.chaos
def test_bfloat16_keeps_its_caps(name: str, view: str, smollm2: Model, shipped: Shipped) -> None:
    if (name, view) == ("pytorch", "portable") and products.WIDENS:
        pytest.skip("torch.mm has no fast bfloat16 on this CPU: all requests would take three minutes")
    mean, largest = BFLOAT16_CAPS.get((name, view), (0.008, 0.03))
    backend = load_backend(name, view=view, model=smollm2, device="cpu", dtype="bfloat16")
    away = np.concatenate(
        [np.abs(backend.score(request) - expected).ravel() for request, expected in map(shipped, range(N_SHIPPED))]
    )
    assert away.mean() <= mean and away.max() <= largest, f"{away.mean():.4f}, {away.max():.4f}"
    assert away.max() > 1e-5, "bfloat16 was asked for: exact float32 agreement would mean it was not used"


@pytest.mark.parametrize("view", ["portable", "best_native"])
@pytest.mark.parametrize("name", ["jax", "pytorch"])
def test_bfloat16_keeps_the_largest_cap_on_any_cpu(name: str, view: str, smollm2: Model, shipped: Shipped) -> None:
    _, largest = BFLOAT16_CAPS.get((name, view), (0.008, 0.03))
    request, expected = shipped(0)
    backend = load_backend(name, view=view, model=smollm2, device="cpu", dtype="bfloat16")
    assert 1e-5 < np.abs(backend.score(request) - expected).max() <= largest
