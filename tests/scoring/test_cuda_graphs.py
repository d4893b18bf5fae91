"""PyTorch's steps on a GPU, as far as a CPU can tell: traced for CUDA, and recorded steps launched by hand."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from scorematrix import ScoreRequest
from scorematrix.models import Model, load_model
from scorematrix.scoring.pytorch import best_native, device, graphs
from scorematrix.scoring.pytorch.attention import Form
from scorematrix.scoring.pytorch.best_native import BestNativeBackend as Engine
from scorematrix.scoring.rotary import inverse_frequencies
from scorematrix.scoring.shared_prefix import keyed_steps
from tests.conftest import environment_of_users
from tests.factory import make_params, write_run

rng = np.random.default_rng(12)
LENGTHS = [5, 40, 1, 9, 9, 9, 3, 70, 2]


@pytest.fixture
def uncompiled() -> Iterator[None]:
    """What is recorded does not depend on what is compiled, and compiling takes minutes."""
    with torch.compiler.set_stance("force_eager"):
        yield


def request_of(lengths: list[int], n_query: int = 50, apply_softmax: bool = True) -> ScoreRequest:
    items = [rng.integers(0, 256, n).tolist() for n in lengths]
    return ScoreRequest(rng.integers(0, 256, n_query).tolist(), items, [3, 200], apply_softmax)


class HostOperations(TorchDispatchMode):
    """Keeps what waits for the device or reads the host's memory: neither can be recorded."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[str] = []
        self.found: list[str] = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        self.seen.append(str(function))
        tensors = [x for x in tree_leaves((args, kwargs, result)) if isinstance(x, Tensor)]
        if {x.device.type for x in tensors} != {"meta"} or torch.Tag.data_dependent_output in function.tags:
            self.found.append(str(function))
        return result


@pytest.mark.usefixtures("uncompiled")
@pytest.mark.parametrize(("dtype", "form"), [("bfloat16", "cudnn"), ("bfloat16", "flash"), ("float32", "efficient")])
@pytest.mark.parametrize("apply_softmax", [True, False])
def test_a_step_on_a_gpu_never_turns_to_the_host(dtype: str, form: Form, apply_softmax: bool, tiny: Model) -> None:
    """With CUDA's attention kernels, and tensors that have a shape but no memory, so that no GPU is needed."""
    request, config, meta = request_of(LENGTHS, apply_softmax=apply_softmax), tiny.config, torch.device("meta")
    kept = None
    with torch.inference_mode(), HostOperations() as host:
        weights = device.place_weights(tiny.weights, dtype, meta)
        layers = device.layer_slices(weights.layers, config.n_layers)
        frequencies = torch.from_numpy(inverse_frequencies(config)).to(meta)
        for step, key in keyed_steps(request, 60, buckets=False):
            inputs, given = best_native.program_inputs(step, request.label_ids).to(meta), kept
            host.found.clear()
            scores, made = best_native.score_step(
                config, key, form, weights, layers, frequencies, inputs, given, best_native.finish_layer
            )
            assert host.found == [] and scores.shape == (sum(b.s for b in key.shape.blocks), 2)
            kept = made or kept
    assert f"aten._scaled_dot_product_{form}_attention.default" in host.seen
    assert ("scorematrix.join_own_items.default" in host.seen) == (form == "cudnn")


def by_hand(launch: Callable[[], Tensor]) -> tuple[Callable[[], None], Tensor]:
    """Stands for CUDA: launched again is all that was launched, on the memory that it was launched on."""
    result = launch().clone()
    return lambda: result.copy_(launch()), result


def recording(model: Model, record: graphs.Record = by_hand, limit: int = 64, **settings: int) -> Engine:
    engine = Engine(model, device="cpu", dtype="float32", **settings)
    engine._graphs = graphs.StepGraphs(limit, record)
    return engine


@pytest.mark.usefixtures("uncompiled")
@pytest.mark.parametrize(
    ("settings", "n_graphs"),
    [({}, 2), ({"step_tokens": 60}, 6), ({"reuse_prefix": 1}, 2), ({"step_tokens": 60, "reuse_prefix": 1}, 8)],
)
def test_recorded_steps_score_what_others_do(settings: dict[str, int], n_graphs: int, tiny: Model) -> None:
    """Other tokens than those that were recorded, each request twice, and a shape that was not recorded."""
    engine, plain = recording(tiny, **settings), Engine(tiny, device="cpu", dtype="float32")
    engine.prepare([request_of(LENGTHS, n_query=50), request_of(LENGTHS, n_query=30)])
    assert len(engine._graphs) == n_graphs and engine.info.fallbacks == ()
    n_events = len(engine.compile_events)
    first, second, short = request_of(LENGTHS), request_of(LENGTHS), request_of(LENGTHS, n_query=30)
    for request in [first, second, short, first, request_of(LENGTHS[:5])]:
        expected = plain.score(request)
        for _ in range(2):
            assert np.abs(engine.score(request) - expected).max() <= 2e-6
    assert len(engine.compile_events) == n_events


@pytest.mark.usefixtures("uncompiled")
def test_recorded_steps_are_what_runs(tiny: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    launched = []

    def record(launch: Callable[[], Tensor]) -> tuple[Callable[[], None], Tensor]:
        result = launch()
        return lambda: launched.append(result), result

    engine = recording(tiny, record)
    request = request_of(LENGTHS)
    engine.prepare([request, request_of(LENGTHS)])
    assert "1 CUDA graphs recorded" in engine.compile_events[-1].program
    monkeypatch.setattr(best_native, "score_step", None)  # nothing is launched kernel by kernel
    engine.score(request)
    assert len(launched) == 1


@pytest.mark.usefixtures("uncompiled")
def test_what_is_not_recorded_is_said(tiny: Model) -> None:
    requests = [request_of(LENGTHS[:n]) for n in (3, 6, 9)]
    plain = Engine(tiny, device="cpu", dtype="float32")

    def failing(launch: Callable[[], Tensor]) -> tuple[Callable[[], None], Tensor]:
        raise RuntimeError("operation not permitted when stream is capturing\nmore of it")

    for engine, n_graphs, words in [
        (recording(tiny, limit=2), 2, "2 shapes"),
        (
            recording(tiny, failing),
            0,
            "operation not permitted when stream is capturing",
        ),
    ]:
        engine.prepare(requests)
        assert len(engine._graphs) == n_graphs
        (fallback,) = engine.info.fallbacks
        assert words in fallback and "more of it" not in fallback
        for request in requests:
            assert np.abs(engine.score(request) - plain.score(request)).max() <= 2e-6


@pytest.mark.gpu
@pytest.mark.parametrize("settings", [{}, {"step_tokens": 60, "reuse_prefix": 1}])
def test_cuda_records_steps(settings: dict[str, int]) -> None:
    if not torch.cuda.is_available():
        pytest.skip(f"PyTorch {torch.__version__} sees no CUDA device")
    model = load_model("random:tiny-qwen3", seed=11)
    engine = Engine(model, device="gpu", dtype="float32", **settings)
    engine.prepare([request_of(LENGTHS)])
    assert len(engine._graphs) > 0 and engine.info.fallbacks == ()
    plain = Engine(model, device="cpu", dtype="float32")
    for request in [request_of(LENGTHS), request_of(LENGTHS), request_of(LENGTHS[:5])]:
        for _ in range(2):
            assert np.abs(engine.score(request) - plain.score(request)).max() <= 2e-5


ROUND = """
import sys
import torch
from scorematrix.matrix.round import run_round
from scorematrix.results import PlannedRound
from scorematrix.scoring.pytorch import best_native, graphs

class OnAFullGPU(best_native.BestNativeBackend):
    def __init__(self, *args, **settings):
        super().__init__(*args, **settings)
        self._graphs = graphs.StepGraphs(record=self.refuse)
    def refuse(self, launch):
        raise RuntimeError("CUDA out of memory")

torch.compiler.set_stance("force_eager")
best_native.BestNativeBackend = OnAFullGPU
planned = PlannedRound(index=1, role="confirm", backend="pytorch", view="best_native", target="cpu", position=1)
print(run_round(sys.argv[1], planned).model_dump_json())
"""


@pytest.mark.chaos
def test_a_round_records_what_could_not_be_prepared(tmp_path: Path) -> None:
    backends = [{"backend": name, "views": ["portable", "best_native"]} for name in ("jax", "pytorch")]
    params = make_params(rounds=2, chunk_sizes=[2], passes=1, backends=backends)
    store = write_run(tmp_path / "run", params=params, keep=lambda planned: False)
    command = [sys.executable, "-c", ROUND, str(store.folder)]
    done = subprocess.run(command, env=environment_of_users(), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    round_ = json.loads(done.stdout.splitlines()[-1])
    assert [cell["status"] for cell in round_["cells"]] == ["ok"], round_["cells"]
    (fallback,) = round_["record"]["fallbacks"]
    assert "CUDA graph" in fallback and "CUDA out of memory" in fallback
