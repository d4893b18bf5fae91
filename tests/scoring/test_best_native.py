"""What the best-native engines promise beside exact scores: steps, few compiles, little memory, kernels that agree."""

from __future__ import annotations

import jax
import numpy as np
import pytest

from scorematrix import ScoreRequest, load_backend
from scorematrix.models import Model, load_model
from scorematrix.models.random_weights import RANDOM_SHAPES
from scorematrix.scoring.jax.best_native import BestNativeBackend as JaxBestNative
from scorematrix.scoring.jax.best_native import compile_program
from scorematrix.scoring.jax.device import weight_shapes
from scorematrix.scoring.pytorch.best_native import BestNativeBackend as PytorchBestNative
from scorematrix.scoring.shared_prefix import ProgramKey, lay_out, shortened

ENGINES = [JaxBestNative, PytorchBestNative]
rng = np.random.default_rng(4)


@pytest.fixture(scope="module")
def model() -> Model:
    return load_model("random:tiny-qwen3", seed=11)


def request_of(lengths: list[int], n_query: int = 50, apply_softmax: bool = True) -> ScoreRequest:
    items = [rng.integers(0, 256, n).tolist() for n in lengths]
    return ScoreRequest(rng.integers(0, 256, n_query).tolist(), items, [3, 200], apply_softmax)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("apply_softmax", [True, False])
def test_steps_change_nothing(engine, apply_softmax: bool, model: Model) -> None:
    request = request_of([5, 40, 1, 9, 9, 9, 3, 70, 2], apply_softmax=apply_softmax)
    at_once = engine(model, device="cpu", dtype="float32")
    in_steps = engine(model, device="cpu", dtype="float32", step_tokens=80)
    assert at_once.info.settings["step_tokens"] > 80 == in_steps.info.settings["step_tokens"]
    assert np.abs(at_once.score(request) - in_steps.score(request)).max() <= 2e-6


@pytest.mark.parametrize("engine", ENGINES)
def test_prefix_reuse_is_exact_bounded_and_stated(engine, model: Model) -> None:
    requests = [request_of([5, 40, 1, 9], n_query=n) for n in (50, 40, 33)]
    plain = engine(model, device="cpu", dtype="float32")
    kept = engine(model, device="cpu", dtype="float32", reuse_prefix=2)
    assert (plain.info.settings["reuse_prefix"], kept.info.settings["reuse_prefix"]) == (0, 2)
    kept.prepare(requests)
    n_programs, n_kept = len(kept.compile_events), []
    for request in [requests[0], requests[0], requests[1], requests[0], requests[2], requests[1]]:
        assert np.abs(kept.score(request) - plain.score(request)).max() <= 2e-6
        n_kept.append(len(kept._kept))
    assert n_kept == [1, 1, 2, 2, 2, 2]
    # The one seen longest ago went, twice: the second query for the third, then the first for the second.
    assert [kept._kept.get(r.query_ids) is not None for r in requests] == [False, True, True]
    assert len(kept.compile_events) == n_programs, "prepare made the programs with and without the query"
    assert len(plain._kept) == 0


@pytest.mark.parametrize("view", ["best_native", "portable"])
def test_jax_keeps_no_more_programs_than_it_may(view: str, model: Model) -> None:
    backend = load_backend("jax", view=view, model=model, device="cpu", dtype="float32")
    backend.most_programs = 2
    one, two, three = (request_of([2], n_query=n) for n in (8, 80, 160))
    first = backend.score(one)
    for request in (two, one, three, one):  # the second went, not the first, which was used since
        backend.score(request)
    assert len(backend.compile_events) == 3 and len(backend._programs) == 2
    backend.score(two)
    assert len(backend.compile_events) == 4 and np.array_equal(backend.score(one), first)


@pytest.mark.parametrize("name", ["jax", "pytorch"])
def test_prefix_reuse_is_refused_where_it_is_not_served(name: str, model: Model) -> None:
    with pytest.raises(ValueError, match="reuse_prefix=3.*'portable'"):
        load_backend(name, model=model, device="cpu", reuse_prefix=3)
    with pytest.raises(ValueError, match="reuse_prefix=-1"):
        load_backend(name, view="best_native", model=model, device="cpu", reuse_prefix=-1)


def test_jax_compiles_once_for_a_bucket(model: Model) -> None:
    backend = JaxBestNative(model, device="cpu", dtype="float32")
    backend.prepare([request_of([6] * 12)])
    assert len(backend.compile_events) == 1
    for lengths in ([6] * 12, [6] * 11 + [1], [7] * 9 + [5]):  # 66 to 72 tokens, 9 to 16 items
        backend.score(request_of(lengths))
    assert len(backend.compile_events) == 1
    backend.score(request_of([6] * 40))
    assert len(backend.compile_events) == 2, "a compile is recorded wherever it happens"


def test_pytorch_compiles_once_for_all_lengths(model: Model) -> None:
    backend = PytorchBestNative(model, device="cpu", dtype="float32")
    backend.prepare([request_of([6] * 12)])
    before = len(backend.compile_events)
    for lengths, n_query in (([6] * 12, 50), ([6], 50), ([1, 2], 3), ([30] * 40, 200), ([4] * 7, 1)):
        backend.score(request_of(lengths, n_query))
    assert len(backend.compile_events) == before
    backend.score(request_of([60] * 3))  # longer items have a graph of their own
    assert len(backend.compile_events) <= before + 1


def test_pytorch_warms_each_set_of_length_classes_once() -> None:
    """By items no longer than the class needs: an item of 9,000 tokens must not make one of 32,768."""
    alike = {shortened(request_of(lengths, 9)) for lengths in ([3, 60], [32, 33, 128], [40, 1, 1])}
    assert len(alike) == 1
    long = shortened(ScoreRequest([1] * 9, [[1] * 9000], [2]))
    assert max(map(len, long.items_ids)) <= 9000


def test_memory_grows_with_tokens_not_with_their_square() -> None:
    """The contract's shape, 2000 query tokens and 500 items of 20, in float32 and in one step."""
    config, cpu = RANDOM_SHAPES["smollm2-135m"], jax.devices("cpu")[0]
    weights = weight_shapes(config, "float32", cpu)
    bytes_ = {}
    for n_items in (500, 2000):
        request = ScoreRequest([1] * 2000, [[1] * 20] * n_items, [3, 4])
        step = lay_out(request, range(n_items), with_query=True)
        program, _ = compile_program(config, weights, ProgramKey(step.shape, 2, True, False), "tiles", cpu)
        bytes_[n_items] = program.memory_analysis().temp_size_in_bytes
    assert bytes_[500] <= 1e9
    assert bytes_[2000] <= 4 * bytes_[500]
