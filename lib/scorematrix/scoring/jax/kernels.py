"""cuDNN's attention kernel, which gives the log-sum-exp of its scores beside the values."""

from __future__ import annotations

from typing import cast

import jax.numpy as jnp
from jaxtyping import Array, Float, Int


def attend(
    q_tnh: Float[Array, "t n h"],
    keys_qkh: Float[Array, "q k h"],
    values_qkh: Float[Array, "q k h"],
    n_query: Int[Array, ""],
    *,
    causal: bool,
) -> tuple[Float[Array, "t n h"], Float[Array, "n t"]]:
    """Rows over the query's keys, causally or over all but padding: values in their format, float32 log-sum-exp."""
    # jax.nn.dot_product_attention calls the same function, and rounds its log-sum-exp to the operands' format: at
    # bfloat16's steps of 0.03 two parts merged by it would be wrong by percents.
    from jax._src.cudnn.fused_attention_stablehlo import MaskType, dot_product_attention

    t = q_tnh.shape[0]
    found = dot_product_attention(
        q_tnh[None].astype(keys_qkh.dtype),
        keys_qkh[None],
        values_qkh[None],
        mask_type=MaskType.CAUSAL if causal else MaskType.PADDING,
        return_residual=True,
        q_seqlen=None if causal else jnp.full(1, t, jnp.int32),
        kv_seqlen=None if causal else n_query.reshape(1).astype(jnp.int32),
    )
    values_1tnh, lse_1nt = cast("tuple[Array, Array]", found)
    return values_1tnh[0], lse_1nt[0]
