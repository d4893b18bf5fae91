"""The portable view in JAX: query and chunk packed into one sequence under a dense mask.

Step for step the same as scoring/pytorch/portable.py.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from scorematrix.models.catalogue import Model
from scorematrix.models.config import DecoderConfig
from scorematrix.models.weights import DecoderWeights, LayerWeights
from scorematrix.scoring.contract import AskedDType, CompileEvent, Scores
from scorematrix.scoring.jax import device as devices
from scorematrix.scoring.jax.compiles import kept_program
from scorematrix.scoring.jax.model import (
    einsum,
    embed,
    feed_forward,
    label_probabilities,
    project_qkv,
    rms_norm,
    rotary_tables,
)
from scorematrix.scoring.packing import QUERY_SEGMENT, PackedChunk, pack, packed_shape
from scorematrix.scoring.rotary import inverse_frequencies
from scorematrix.workload.request import ScoreRequest

ProgramKey = tuple[int, int, int, bool]
"""(tokens, scored positions, labels, apply_softmax), all padded."""


class PortableBackend:
    """Backend `jax`, view `portable`."""

    def __init__(self, model: Model, *, device: str = "auto", dtype: AskedDType = "auto") -> None:
        self._device = devices.choose_device(device)
        dtype, why = devices.choose_dtype(dtype, self._device)
        self.info = devices.describe(model, "portable", self._device, dtype, dtype_choice=why)
        self.compile_events: list[CompileEvent] = []
        self._config = model.config
        self._weights = devices.place_weights(model.weights, dtype, self._device)
        self._programs: dict[ProgramKey, jax.stages.Compiled] = {}
        self.most_programs: int | None = None

    def prepare(self, requests: Sequence[ScoreRequest]) -> None:
        for request in requests:
            self._program(program_key(request))

    def score(self, request: ScoreRequest) -> Scores:
        request.check_vocabulary(self._config.vocab_size)
        chunk = pack(request)
        program = self._program(program_key(request))
        probabilities_sc = program(self._weights, *program_inputs(chunk, request.label_ids))
        return np.asarray(probabilities_sc)[: chunk.n_items]

    def computed_tokens(self, request: ScoreRequest) -> int:
        """Return the number of tokens that a call computes, padding included."""
        return packed_shape(request)[0]

    def _program(self, key: ProgramKey) -> jax.stages.Compiled:
        def make() -> jax.stages.Compiled:
            program, event = compile_program(self._config, self._weights, key, self._device)
            self.compile_events.append(event)
            return program

        return kept_program(self._programs, key, make, self.most_programs)


def program_key(request: ScoreRequest) -> ProgramKey:
    """Return what a compiled program depends on."""
    return (*packed_shape(request), len(request.label_ids), request.apply_softmax)


def program_inputs(chunk: PackedChunk, label_ids: Sequence[int]) -> tuple[np.ndarray, ...]:
    """Return the arrays that change from call to call, in the order of `score_packed`."""
    return chunk.token_t, chunk.position_t, chunk.segment_t, chunk.scored_s, np.asarray(label_ids, np.int32)


def compile_program(
    config: DecoderConfig,
    weights: DecoderWeights[Array] | DecoderWeights[jax.ShapeDtypeStruct],
    key: ProgramKey,
    device: devices.Device,
) -> tuple[jax.stages.Compiled, CompileEvent]:
    """Trace and compile ahead of time for one padded shape; `weights` may be shapes only."""
    t, s, c, apply_softmax = key
    on_device = jax.sharding.SingleDeviceSharding(device)
    inputs = [jax.ShapeDtypeStruct((n,), jnp.int32, sharding=on_device) for n in (t, t, t, s, c)]
    function = jax.jit(functools.partial(score_packed, config, apply_softmax))
    name = f"portable t={t} s={s} c={c} softmax={apply_softmax}"
    return devices.compile_ahead(function, (weights, *inputs), device, name)


def score_packed(
    config: DecoderConfig,
    apply_softmax: bool,
    weights: DecoderWeights[Array],
    token_t: Int[Array, " t"],
    position_t: Int[Array, " t"],
    segment_t: Int[Array, " t"],
    scored_s: Int[Array, " s"],
    label_c: Int[Array, " c"],
) -> Float[Array, "s c"]:
    """Run the forward pass over one packed sequence."""
    cos_th, sin_th = rotary_tables(position_t, inverse_frequencies(config))
    mask_tt = attention_mask(segment_t)

    def layer_step(x_td: Array, layer: LayerWeights[Array]) -> tuple[Array, None]:
        return decoder_layer(config, layer, x_td, cos_th, sin_th, mask_tt), None

    x_td, _ = jax.lax.scan(layer_step, embed(config, weights.embed_vd, token_t), weights.layers)
    hidden_sd = rms_norm(config, x_td[scored_s], weights.final_norm_d)
    return label_probabilities(hidden_sd, weights.head_vd, label_c, apply_softmax)


def decoder_layer(
    config: DecoderConfig, layer: LayerWeights[Array], x_td: Array, cos_th: Array, sin_th: Array, mask_tt: Array
) -> Array:
    """Add attention's output, then the feed-forward part, to the float32 residual stream."""
    q_tnh, k_tkh, v_tkh = project_qkv(config, layer, x_td, cos_th, sin_th)
    attended_tnh = masked_attention(q_tnh, k_tkh, v_tkh, mask_tt, layer.q_ldnh.dtype)
    x_td = x_td + einsum("tnh,nhd->td", attended_tnh, layer.o_lnhd, layer.o_lnhd.dtype)
    return x_td + feed_forward(config, layer, x_td)


def attention_mask(segment_t: Int[Array, " t"]) -> Bool[Array, "t u"]:
    """Return True where token t may look at token u: u is not ahead, and in t's segment or the query."""
    order_t = jnp.arange(segment_t.shape[0])
    causal_tu = order_t[:, None] >= order_t[None, :]
    same_tu = segment_t[:, None] == segment_t[None, :]
    return causal_tu & (same_tu | (segment_t == QUERY_SEGMENT)[None, :])


def masked_attention(
    q_tnh: Float[Array, "t n h"],
    k_tkh: Float[Array, "t k h"],
    v_tkh: Float[Array, "t k h"],
    mask_tu: Bool[Array, "t u"],
    dtype: jnp.dtype,
) -> Float[Array, "t n h"]:
    """Compute grouped-query attention with every score in memory.

    Scores and softmax are float32 for all weights. PyTorch would round bfloat16 scores, in steps of 0.125 near 20.
    """
    t, n, h = q_tnh.shape
    k = k_tkh.shape[1]
    q_tkgh = q_tnh.reshape(t, k, n // k, h)
    scores_kgtu = einsum("tkgh,ukh->kgtu", q_tkgh, k_tkh, jnp.float32) * h**-0.5
    scores_kgtu = jnp.where(mask_tu, scores_kgtu, -jnp.inf)
    weights_kgtu = jax.nn.softmax(scores_kgtu, axis=-1)
    return einsum("kgtu,ukh->tkgh", weights_kgtu, v_tkh, dtype).reshape(t, n, h)
