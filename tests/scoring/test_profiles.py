"""Where a call's time goes: both engines' parts, on this CPU by the real profilers and on a GPU by recorded events."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from scorematrix import ScoreRequest, load_backend
from scorematrix.models import load_model
from scorematrix.models.flops import scoring_flops
from scorematrix.scoring.jax import profiles as of_jax
from scorematrix.scoring.profiles import PARTS, part_flops, profile_call
from scorematrix.scoring.pytorch import profiles as of_pytorch

rng = np.random.default_rng(3)
MODEL = load_model("random:tiny-qwen3", seed=11)
REQUEST = ScoreRequest(
    rng.integers(0, 256, 90).tolist(), [rng.integers(0, 256, n).tolist() for n in (20, 3, 40)], [3, 200]
)


@pytest.mark.parametrize("framework", ["jax", "pytorch"])
def test_every_part_of_an_engine_takes_time(framework: str) -> None:
    backend = load_backend(framework, view="best_native", model=MODEL, device="cpu", dtype="float32")
    before = backend.score(REQUEST)
    n_events = len(backend.compile_events)
    found = profile_call(backend, MODEL.config, REQUEST)
    assert found is not None and [part.part for part in found.parts] == list(PARTS)
    assert all(part.seconds > 0 and part.n > 0 for part in found.parts), found.parts
    # Operations of two cores overlap, and the profiler looks on.
    assert 0 < sum(part.seconds for part in found.parts) < 3 * found.seconds
    assert np.array_equal(backend.score(REQUEST), before) and len(backend.compile_events) == n_events


def test_the_parts_operations_are_the_whole_calls() -> None:
    flops = part_flops(MODEL.config, REQUEST)
    assert sum(flops.values()) == scoring_flops(MODEL.config, 90, [20, 3, 40]) and "head" not in flops


@pytest.mark.parametrize(("framework", "view"), [("jax", "portable"), ("numpy", None), ("transformers", "packed")])
def test_others_have_no_profile(framework: str, view: str | None) -> None:
    assert profile_call(load_backend(framework, view=view, model=MODEL, device="cpu"), MODEL.config, REQUEST) is None


HLO = """
  %fusion.1 = f32[8]{0} fusion(%p), kind=kLoop, calls=%c, metadata={op_name="jit(f)/while/body/own_items/exp" id=1}
  %custom-call.2 = f32[8]{0} call(%p), metadata={id=1 op_name="jit(f)/while/body/linear/td,df->tf/dot"}
  ROOT %while.3 = (s32[]) while(%t), condition=%c, body=%b, metadata={op_name="jit(f)/while"}
"""


def test_a_gpus_trace_is_read_by_its_instructions() -> None:
    """As XLA writes it on an NVIDIA GPU: a stream's kernels, and lines that sum them up once more."""
    scopes = dict(of_jax.scopes_of(HLO))
    assert scopes.keys() == {"fusion.1", "custom-call.2"}
    events = [
        {"ph": "M", "name": "process_name", "pid": 1, "args": {"name": "/device:GPU:0"}},
        {"ph": "M", "name": "process_name", "pid": 7, "args": {"name": "/host:CPU"}},
        {"ph": "M", "name": "thread_name", "pid": 1, "tid": 2, "args": {"name": "Stream #14(Compute)"}},
        {"ph": "M", "name": "thread_name", "pid": 1, "tid": 3, "args": {"name": "XLA Modules"}},
        {"ph": "X", "pid": 1, "tid": 2, "name": "nvjet_128", "dur": 5, "args": {"hlo_op": "custom-call.2"}},
        {"ph": "X", "pid": 1, "tid": 2, "name": "loop_fusion", "dur": 2, "args": {"hlo_op": "fusion.1"}},
        {"ph": "X", "pid": 1, "tid": 2, "name": "MemcpyD2H", "dur": 1, "args": {}},
        {"ph": "X", "pid": 1, "tid": 3, "name": "jit_f", "dur": 8, "args": {}},
        {"ph": "X", "pid": 7, "tid": 1, "name": "numpy asarray", "dur": 9},
    ]
    assert list(of_jax.read_events(events, scopes)) == [("linear", 5e-6), ("own_items", 2e-6), ("other", 1e-6)]


def test_a_gpus_kernels_are_told_apart_by_what_launched_them() -> None:
    def event(name: str, parent: object, *kernels: tuple[str, float]) -> SimpleNamespace:
        launched = [SimpleNamespace(name=kernel, duration=duration) for kernel, duration in kernels]
        return SimpleNamespace(name=name, cpu_parent=parent, kernels=launched, self_cpu_time_total=3)

    scope = event("prefix_attention", None)
    events = [
        scope,
        event("aten::_scaled_dot_product_cudnn_attention", scope, ("cudnn_sdpa", 7)),
        event("aten::mm", None, ("nvjet_sm90_tst", 5)),
        event("triton_poi_fused_silu", None, ("triton_poi_fused_silu", 2)),
    ]
    found = list(of_pytorch.read_events(events, on_gpu=True))
    assert found == [("prefix_attention", 7e-6), ("linear", 5e-6), ("other", 2e-6)]
