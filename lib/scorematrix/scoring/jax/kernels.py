"""cuDNN's attention kernel. It returns the values and the log-sum-exp of its scores."""

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
    """Attend to the query's keys, causally or to all but padding: values in their format, float32 log-sum-exp."""
    # jax.nn.dot_product_attention calls the same function but rounds its log-sum-exp to the operands' format. At
    # bfloat16's steps of 0.03, merging two parts with it would be wrong by percents.
    from jax._src.cudnn.fused_attention_stablehlo import MaskType, dot_product_attention

    t = q_tnh.shape[0]
    output = dot_product_attention(
        q_tnh[None].astype(keys_qkh.dtype),
        keys_qkh[None],
        values_qkh[None],
        mask_type=MaskType.CAUSAL if causal else MaskType.PADDING,
        return_residual=True,
        q_seqlen=None if causal else jnp.full(1, t, jnp.int32),
        kv_seqlen=None if causal else n_query.reshape(1).astype(jnp.int32),
    )
    values_1tnh, lse_1nt = cast("tuple[Array, Array]", output)
    return values_1tnh[0], lse_1nt[0]
