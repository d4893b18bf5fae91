"""The accelerators' attention kernels behind one face; each gives the log-sum-exp of its scores beside the values."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

SPLASH_BLOCK = 512


def attend(
    form: str,
    q_tnh: Float[Array, "t n h"],
    keys_qkh: Float[Array, "q k h"],
    values_qkh: Float[Array, "q k h"],
    n_query: Int[Array, ""],
    *,
    causal: bool,
) -> tuple[Float[Array, "t n h"], Float[Array, "t n"]]:
    """Rows over the query's keys, causally or over all but padding: float32 values and log-sum-exp."""
    kernel = {"cudnn": _cudnn, "splash": _splash, "splash_interpreted": _splash}[form]
    extra = {"interpret": form == "splash_interpreted"} if form.startswith("splash") else {}
    return kernel(q_tnh, keys_qkh, values_qkh, n_query, causal=causal, **extra)


def _cudnn(q_tnh: Array, keys_qkh: Array, values_qkh: Array, n_query: Array, *, causal: bool) -> tuple[Array, Array]:
    q_1tnh = q_tnh[None].astype(keys_qkh.dtype)
    lengths = {} if causal else {"key_value_seq_lengths": n_query.reshape(1).astype(jnp.int32)}
    values, lse = jax.nn.dot_product_attention(
        q_1tnh,
        keys_qkh[None],
        values_qkh[None],
        scale=1.0,
        is_causal=causal,
        implementation="cudnn",
        return_residual=True,
        **lengths,
    )
    return values[0].astype(jnp.float32), lse[0].astype(jnp.float32)


def _splash(
    q_tnh: Array, keys_qkh: Array, values_qkh: Array, n_query: Array, *, causal: bool, interpret: bool
) -> tuple[Array, Array]:
    from jax.experimental.pallas.ops.tpu.splash_attention import splash_attention_kernel as splash
    from jax.experimental.pallas.ops.tpu.splash_attention import splash_attention_mask as masks

    t, n, h = q_tnh.shape
    q, k, _ = keys_qkh.shape
    # The kernel wants whole blocks; what is added is masked as the other padding, and cut off again.
    block_t, block_q = min(SPLASH_BLOCK, _up(t, 128)), min(SPLASH_BLOCK, _up(q, 128))
    padded_t, padded_q = _up(t, block_t), _up(q, block_q)
    mask = (masks.CausalMask if causal else masks.FullMask)((padded_t, padded_q))
    kernel = splash.make_splash_mqa_single_device(
        masks.MultiHeadMask([mask] * (n // k)),
        block_sizes=splash.BlockSizes(block_q=block_t, block_kv=block_q, block_kv_compute=block_q),
        save_residuals=True,
        interpret=interpret,
    )
    segments = splash.SegmentIds(jnp.zeros(padded_t, jnp.int32), (jnp.arange(padded_q) >= n_query).astype(jnp.int32))
    dtype = keys_qkh.dtype
    q_kgth = jnp.einsum("tkgh->kgth", _pad(q_tnh, padded_t).astype(dtype).reshape(padded_t, k, n // k, h))
    keys_kqh = jnp.einsum("qkh->kqh", _pad(keys_qkh, padded_q))
    values_kqh = jnp.einsum("qkh->kqh", _pad(values_qkh, padded_q))
    values_kgth, (lse_kgt,) = jax.vmap(functools.partial(kernel, segment_ids=segments))(q_kgth, keys_kqh, values_kqh)
    values_tnh = jnp.einsum("kgth->tkgh", values_kgth.astype(jnp.float32)).reshape(padded_t, n, h)
    return values_tnh[:t], jnp.einsum("kgt->tkg", lse_kgt).reshape(padded_t, n)[:t]


def _up(n: int, multiple: int) -> int:
    return -(-n // multiple) * multiple


def _pad(x_t: Array, length: int) -> Array:
    return jnp.pad(x_t, ((0, length - x_t.shape[0]), *[(0, 0)] * (x_t.ndim - 1)))
