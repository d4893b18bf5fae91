"""The decoder parts that all JAX views share, as plain functions of arrays."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from scorematrix.models.config import DecoderConfig
from scorematrix.models.weights import LayerWeights

HIGHEST = jax.lax.Precision.HIGHEST
VOCABULARY_TILE = 8192


def einsum(spec: str, a: Array, b: Array, dtype: jnp.dtype) -> Float[Array, "..."]:
    """Multiply operands in the weights' format, with float32 sums and a float32 result.

    Float32 products have full precision: JAX's default is TF32 on recent GPUs and bf16 passes on TPUs. For bfloat16 a
    float32 result costs nothing, and a bfloat16 result would lose half the accuracy.
    """
    return jnp.einsum(spec, a.astype(dtype), b.astype(dtype), precision=HIGHEST, preferred_element_type=jnp.float32)


@jax.named_scope("linear")
def linear(spec: str, x: Array, weight: Array) -> Float[Array, "..."]:
    """Multiply activations by a weight like `einsum`."""
    return einsum(spec, x, weight, weight.dtype)


def embed(config: DecoderConfig, embed_vd: Float[Array, "v d"], token_t: Int[Array, " t"]) -> Float[Array, "t d"]:
    """Look up the tokens' float32 embeddings."""
    x_td = embed_vd[token_t].astype(jnp.float32)
    return x_td * config.embedding_scale if config.embedding_scale != 1 else x_td


def rms_norm(config: DecoderConfig, x: Float[Array, "... d"], weight_d: Float[Array, " d"]) -> Float[Array, "... d"]:
    """Apply the root-mean-square norm to float32 activations."""
    scale = jax.lax.rsqrt(jnp.mean(x * x, axis=-1, keepdims=True) + config.rms_norm_eps)
    return norm_scale(config, weight_d) * x * scale


def norm_scale(config: DecoderConfig, weight_d: Float[Array, " d"]) -> Float[Array, " d"]:
    """Return the float32 factors of a norm's weight."""
    weight_d = weight_d.astype(jnp.float32)
    return weight_d + config.family.norm_offset if config.family.norm_offset else weight_d


def rotate(
    x_tnh: Float[Array, "t n h"], cos_th: Float[Array, "t h"], sin_th: Float[Array, "t h"]
) -> Float[Array, "t n h"]:
    """Apply the rotary embedding to pairs (i, i + h/2)."""
    return x_tnh * cos_th[:, None] + turn(x_tnh) * sin_th[:, None]


def turn(x: Float[Array, "... h"]) -> Float[Array, "... h"]:
    """Rotate every pair (i, i + h/2) by a quarter turn."""
    low, high = jnp.split(x, 2, axis=-1)
    return jnp.concatenate([-high, low], axis=-1)


def rotary_tables(
    position_t: Int[Array, " t"], inverse_frequency: Float[Array | np.ndarray, " half"]
) -> tuple[Array, Array]:
    """Return cos and sin of every position, float32 [t, h]."""
    angle = position_t.astype(jnp.float32)[:, None] * inverse_frequency
    angle_th = jnp.concatenate([angle, angle], axis=-1)
    return jnp.cos(angle_th), jnp.sin(angle_th)


def project_qkv(
    config: DecoderConfig,
    layer: LayerWeights[Array],
    x_td: Array,
    cos_th: Array,
    sin_th: Array,
    *,
    turn_weights: bool = False,
    wide_dtype: jnp.dtype = jnp.float32,
) -> tuple[Array, Array, Array]:
    """Project activations to float32 q [t,n,h], k and v [t,k,h]; norms, biases and rotation follow the architecture.

    `layer` is one slice of the stacked weights: its leaves lack the l axis of their names.

    Args:
        turn_weights: rotate with a second product, see `rotated_product`.
        wide_dtype: format of the products in memory.
    """
    x_td = rms_norm(config, x_td, layer.attn_norm_ld)
    v_tkh = linear("td,dkh->tkh", x_td, layer.v_ldkh)
    if config.has_qkv_bias:
        assert layer.v_bias_lkh is not None
        v_tkh = v_tkh + layer.v_bias_lkh
    if turn_weights:
        product = functools.partial(rotated_product, config, x_td, cos_th=cos_th, sin_th=sin_th)
        q_tnh = product(layer.q_ldnh, layer.q_bias_lnh, layer.q_norm_lh)
        return q_tnh, product(layer.k_ldkh, layer.k_bias_lkh, layer.k_norm_lh), v_tkh
    q_tnh = linear("td,dnh->tnh", x_td, layer.q_ldnh).astype(wide_dtype).astype(jnp.float32)
    k_tkh = linear("td,dkh->tkh", x_td, layer.k_ldkh).astype(wide_dtype).astype(jnp.float32)
    if config.has_qkv_bias:
        assert layer.q_bias_lnh is not None and layer.k_bias_lkh is not None
        q_tnh, k_tkh = q_tnh + layer.q_bias_lnh, k_tkh + layer.k_bias_lkh
    if config.has_qk_norm:
        assert layer.q_norm_lh is not None and layer.k_norm_lh is not None
        q_tnh = rms_norm(config, q_tnh, layer.q_norm_lh)
        k_tkh = rms_norm(config, k_tkh, layer.k_norm_lh)
    return rotate(q_tnh, cos_th, sin_th), rotate(k_tkh, cos_th, sin_th), v_tkh


def rotated_product(
    config: DecoderConfig,
    x_td: Float[Array, "t d"],
    weight_dnh: Float[Array, "d n h"],
    bias_nh: Float[Array, "n h"] | None,
    norm_h: Float[Array, " h"] | None,
    *,
    cos_th: Float[Array, "t h"],
    sin_th: Float[Array, "t h"],
) -> Float[Array, "t n h"]:
    """Compute biased, head-normed and rotated queries or keys, rotating with a second product by turned weights.

    This costs a fifth more products. It splits no head in halves, for which a TPU would write and read all heads three
    times.
    """
    plain_tnh, turned_tnh = (linear("td,dnh->tnh", x_td, w) for w in (weight_dnh, turn(weight_dnh)))
    if bias_nh is not None:
        plain_tnh, turned_tnh = plain_tnh + bias_nh, turned_tnh + turn(bias_nh)
    if norm_h is None:
        return plain_tnh * cos_th[:, None] + turned_tnh * sin_th[:, None]
    norm_h = norm_scale(config, norm_h)
    cos_th, sin_th = norm_h * cos_th, jnp.roll(norm_h, norm_h.shape[0] // 2) * sin_th
    scale_tn1 = jax.lax.rsqrt(jnp.mean(plain_tnh * plain_tnh, axis=-1, keepdims=True) + config.rms_norm_eps)
    return scale_tn1 * (plain_tnh * cos_th[:, None] + turned_tnh * sin_th[:, None])


def feed_forward(
    config: DecoderConfig, layer: LayerWeights[Array], x_td: Array, wide_dtype: jnp.dtype = jnp.float32
) -> Float[Array, "t d"]:
    """Return the gated feed-forward block's contribution to the residual stream.

    Args:
        wide_dtype: format of gate and up in memory.
    """
    x_td = rms_norm(config, x_td, layer.mlp_norm_ld)
    gate_tf = linear("td,df->tf", x_td, layer.gate_ldf).astype(wide_dtype)
    up_tf = linear("td,df->tf", x_td, layer.up_ldf).astype(wide_dtype)
    activation = jax.nn.gelu if config.family.gelu else jax.nn.silu  # JAX's GELU is the tanh form
    gated_tf = activation(gate_tf.astype(jnp.float32)) * up_tf.astype(jnp.float32)
    return linear("tf,fd->td", gated_tf, layer.down_lfd)


@jax.named_scope("head")
def label_probabilities(
    hidden_sd: Float[Array, "s d"], head_vd: Float[Array, "v d"], label_c: Int[Array, " c"], apply_softmax: bool
) -> Float[Array, "s c"]:
    """Apply head and softmax in float32: over the labels, or the labels' share of the full vocabulary."""
    logits_sc = einsum("sd,cd->sc", hidden_sd, head_vd[label_c], jnp.float32)
    if apply_softmax:
        return jax.nn.softmax(logits_sc, axis=-1)
    logits_sv = einsum("sd,vd->sv", hidden_sd, head_vd, jnp.float32)
    return jnp.exp(logits_sc - jax.nn.logsumexp(logits_sv, axis=-1, keepdims=True))


@jax.named_scope("head")
def label_probabilities_tiled(
    hidden_sd: Float[Array, "s d"], head_vd: Float[Array, "v d"], label_c: Int[Array, " c"], apply_softmax: bool
) -> Float[Array, "s c"]:
    """Return the same probabilities, computing the vocabulary's logits in tiles to need memory for only one tile."""
    if apply_softmax:
        return label_probabilities(hidden_sd, head_vd, label_c, True)

    def add_tile(lse_s: Array, tile_vd: Array) -> Array:
        logits_sv = einsum("sd,vd->sv", hidden_sd, tile_vd, jnp.float32)
        return jnp.logaddexp(lse_s, jax.nn.logsumexp(logits_sv, axis=-1))

    n_whole = head_vd.shape[0] // VOCABULARY_TILE
    lse_s = jnp.full(hidden_sd.shape[0], -jnp.inf)
    if n_whole:
        tiles_bvd = head_vd[: n_whole * VOCABULARY_TILE].reshape(n_whole, VOCABULARY_TILE, -1)
        lse_s, _ = jax.lax.scan(lambda lse_s, tile_vd: (add_tile(lse_s, tile_vd), None), lse_s, tiles_bvd)
    if n_whole * VOCABULARY_TILE < head_vd.shape[0]:
        lse_s = add_tile(lse_s, head_vd[n_whole * VOCABULARY_TILE :])
    logits_sc = einsum("sd,cd->sc", hidden_sd, head_vd[label_c], jnp.float32)
    return jnp.exp(logits_sc - lse_s[:, None])
