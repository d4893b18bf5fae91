"""What the JAX engine computes on accelerators, as far as a CPU can tell: interpreted for a TPU, traced for a GPU."""

from __future__ import annotations

import functools
import types
from itertools import cycle, product

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from _pytest.mark import ParameterSet

from scorematrix import ScoreRequest
from scorematrix.models import Model, load_model
from scorematrix.models.config import ARCHITECTURES
from scorematrix.models.random_weights import RANDOM_SHAPES
from scorematrix.scoring.jax import attention, best_native, device, joint_kernel, kernels, own_items_kernel
from scorematrix.scoring.shared_prefix import Block, keyed_steps, lay_out

rng = np.random.default_rng(8)


def plainly_joined(block: Block, q_tnh, k_tkh, v_tkh, values_tnh, lse_nt) -> np.ndarray:
    """One softmax over a row's own item, masked in full, and over what stands for the query."""
    groups, row = q_tnh.shape[1] // k_tkh.shape[1], np.arange(block.shape.t)
    keys, own_values = (np.repeat(x, groups, axis=1) for x in (k_tkh, v_tkh))
    seen_tu = (block.item_t[:, None] == block.item_t) & (row <= row[:, None])
    scores_ntu = np.where(seen_tu, np.einsum("tnh,unh->ntu", q_tnh, keys), -np.inf)
    weights_ntu, query_nt = np.exp(scores_ntu), np.exp(lse_nt)
    summed = np.einsum("ntu,unh->tnh", weights_ntu, own_values) + query_nt.T[..., None] * values_tnh
    return summed / (weights_ntu.sum(-1) + query_nt).T[..., None]


@pytest.mark.parametrize("lengths", [[20] * 30, [5, 40, 1, 9, 70, 128, 100], [300, 5, 3, 200]])
def test_the_gpu_kernel_agrees_with_the_plain_form(lengths: list[int]) -> None:
    request = ScoreRequest([1] * 50, [[1] * length for length in lengths], [2, 3])
    for block in lay_out(request, range(len(lengths)), with_query=False).blocks:
        t, n, k, h = block.shape.t, 4, 2, 32
        q_tnh, values_tnh, k_tkh, v_tkh = (rng.normal(size=(t, m, h)).astype(np.float32) for m in (n, n, k, k))
        arrays = (q_tnh, k_tkh, v_tkh, values_tnh, rng.normal(size=(n, t)).astype(np.float32))
        window = block.shape.window
        found = own_items_kernel.join_own_items(*arrays[:3], block.item_t, *arrays[3:], window, interpret=True)
        assert np.abs(np.asarray(found) - plainly_joined(block, *arrays)).max() < 2e-5


# query tokens, item lengths, kv heads, head size
STEPS = {
    "the smallest": (190, [5, 20, 31, 3], 2, 64),
    "one length class": (700, [20] * 60, 2, 128),
    "more keys than are brought in at once, two length classes": (1500, [20] * 60 + [100, 90] * 4, 4, 64),
    "items longer than a block of rows": (200, [5, 300, 20, 270], 1, 64),
    "the largest blocks of rows": (300, [20, 24] * 90, 2, 64),
}
QUICK_STEPS = [("the smallest", True), ("the smallest", False), ("items longer than a block of rows", False)]


def swept(case: tuple, quick: list[tuple]) -> ParameterSet:
    """A case of a sweep: those that are no quick ones are left to `make test-all`."""
    return pytest.param(*case, marks=() if case in quick else pytest.mark.chaos)


@pytest.mark.parametrize(("name", "with_query"), [swept(c, QUICK_STEPS) for c in product(STEPS, [True, False])])
def test_the_tpu_kernel_agrees_with_the_plain_form(name: str, with_query: bool) -> None:
    n_query, lengths, n_kv_heads, head_dim = STEPS[name]
    request = ScoreRequest([1] * n_query, [[1] * length for length in lengths], [2, 3])
    step = lay_out(request, range(len(lengths)), with_query=with_query)
    shape, (_, _, blocks) = step.shape, best_native.program_inputs(step)
    t, n = joint_kernel.whole_blocks(shape.n_tokens), shape.n_tokens
    q_tnh = jnp.asarray(rng.normal(size=(t, 4, head_dim)), jnp.float32) * 3 * head_dim**-0.5
    k_tkh, v_tkh, keys, values = (
        jnp.asarray(rng.normal(size=(rows, n_kv_heads, head_dim)), jnp.float32) for rows in (t, t, shape.q, shape.q)
    )
    if with_query:
        keys, values = k_tkh[: shape.q], v_tkh[: shape.q]
    prefix = attention.Prefix(keys, values, jnp.int32(n_query))

    def attended(form: attention.Form, rows: int) -> np.ndarray:
        own_items = attention.find_own_items(blocks, shape, form)
        found = attention.joint_attention(q_tnh[:rows], k_tkh[:rows], v_tkh[:rows], prefix, own_items, shape, form)
        return np.asarray(found[:n])

    real = np.concatenate([np.arange(shape.n_query_tokens) < n_query, *(block.item_t >= 0 for block in step.blocks)])
    apart = np.abs(attended("tiles", n) - attended("pallas_interpreted", t))[real]
    assert apart.max() < 2e-5


TINY = [f"tiny-{name}" for name in ARCHITECTURES]
SETTINGS = {"at once": {}, "in steps": {"step_tokens": 100}, "query kept": {"step_tokens": 100, "reuse_prefix": 1}}
FORMS = ["pallas_interpreted", "large_tiles"]
# Every architecture, every setting and every form, not each with each.
QUICK_ENGINES = [(one, how, form) for one, how in zip(TINY, cycle(SETTINGS), strict=False) for form in FORMS]


@functools.cache
def expected_of(architecture: str) -> tuple[Model, ScoreRequest, np.ndarray]:
    """A model and a request with the CPU's scores."""
    model, own = load_model(f"random:{architecture}", seed=11), np.random.default_rng(8)
    items = [own.integers(0, 256, n).tolist() for n in [5, 40, 1, 9, 9, 9, 3, 70, 2]]
    request = ScoreRequest(own.integers(0, 256, 50).tolist(), items, [3, 200])
    return model, request, best_native.BestNativeBackend(model, device="cpu", dtype="float32").score(request)


@pytest.mark.parametrize(
    ("architecture", "how", "form"), [swept(c, QUICK_ENGINES) for c in product(TINY, SETTINGS, FORMS)]
)
def test_engines_of_accelerators_score_the_same(
    architecture: str, how: str, form: attention.Form, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every architecture: queries and keys with biases, with norms, and plain."""
    model, request, expected = expected_of(architecture)
    monkeypatch.setattr(best_native, "attention_forms", lambda *_: (form,))
    backend = best_native.BestNativeBackend(model, device="cpu", dtype="float32", **SETTINGS[how])
    assert backend.info.settings["attention"] == form
    if form == "pallas_interpreted":
        assert backend.computed_tokens(request) % 128 == 0, "what fills the kernel's blocks is computed too"
    for _ in range(2):
        assert np.abs(backend.score(request) - expected).max() <= 2e-6


@pytest.fixture
def cudnn(monkeypatch: pytest.MonkeyPatch) -> None:
    """JAX asks cuDNN for nothing but its version before a program runs."""
    from jax._src.cudnn import fused_attention_stablehlo

    library = types.SimpleNamespace(cudnn_get_version=lambda: 91000)
    monkeypatch.setattr(fused_attention_stablehlo, "cuda_versions", library)


@pytest.mark.parametrize("causal", [True, False])
def test_cudnns_log_sum_exp_is_not_rounded(causal: bool, cudnn: None) -> None:
    """At bfloat16's 8 bits parts merged by it would be off by percents; JAX's own function around it rounds it so."""
    q = jax.ShapeDtypeStruct((64, 4, 128), jnp.float32)
    keys = jax.ShapeDtypeStruct((64, 2, 128), jnp.bfloat16)
    n_query = jax.ShapeDtypeStruct((), jnp.int32)
    traced = jax.make_jaxpr(lambda *arrays: kernels.attend(*arrays, causal=causal))(q, keys, keys, n_query)
    rounded = [e.outvars[0].aval.shape for e in traced.eqns if e.params.get("new_dtype") == jnp.bfloat16]
    assert rounded == [(1, 64, 4, 128)], "the queries alone"
    assert [a.dtype for a in traced.out_avals] == [jnp.bfloat16, jnp.float32]


@pytest.mark.parametrize(("dtype", "n_kernels"), [("bfloat16", 3), ("float32", 0)])
def test_programs_for_a_gpu_can_be_written(dtype: str, n_kernels: int, cudnn: None) -> None:
    """Down to what XLA's CUDA compiler gets. In float32, which cuDNN does not take, of plain operations."""
    config, cpu = RANDOM_SHAPES["qwen3-0.6b"], jax.devices("cpu")[0]
    request = ScoreRequest([1] * 2000, [[1] * 20] * 500, [3, 4])
    ((_, key),) = keyed_steps(request, 1 << 16)
    weights = device.weight_shapes(config, dtype, cpu)
    inputs, given = best_native.program_shapes(config, key, jnp.dtype(dtype), cpu)
    form = attention.attention_forms("gpu", dtype, config.head_dim)[0]

    def program(weights, inputs):
        query_q, n_query, blocks, label_c = best_native.unpacked(key, inputs)
        return best_native.score_step(config, key, form, weights, query_q, n_query, blocks, given, label_c)

    text = jax.jit(program).trace(weights, inputs).lower(lowering_platforms=("cuda",)).as_text()
    assert text.count("@__cudnn$fmhaSoftmax") == n_kernels
    assert text.count("@__gpu$xla.gpu.triton") == (dtype == "bfloat16"), "our kernel, in the loop over layers"
