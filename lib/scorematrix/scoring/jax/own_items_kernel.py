"""Item self-attention on a GPU, merged with the attention over the query: one Pallas kernel, for bfloat16.

The online softmax starts from cuDNN's result: its output is the running value, its log-sum-exp the running maximum. No
separate merge is needed. It mirrors scoring/pytorch/own_items_kernel.py. Triton compiles it.

Additional letters: r row of a tile, u key of a block.
"""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl
from jax.experimental.pallas import triton as plgpu
from jaxtyping import Array, Float, Int

ROWS = 64
HEAD_DIMS = (16, 32, 64, 128, 256)
"""Head sizes that Triton supports: powers of two."""


@jax.named_scope("own_items")
def join_own_items(
    q_tnh: Float[Array, "t n h"],
    k_tkh: Float[Array, "t k h"],
    v_tkh: Float[Array, "t k h"],
    item_t: Int[Array, " t"],
    values_tnh: Float[Array, "t n h"],
    lse_nt: Float[Array, "n t"],
    window: int,
    *,
    interpret: bool = False,
) -> Float[Array, "t n h"]:
    """Compute the attention of a block's rows over the query and their items, in the keys' format.

    Args:
        q_tnh: scaled.
        item_t: which item of the block each row belongs to.
        values_tnh: attention over the query alone, and `lse_nt` the log-sum-exp of its scores.
        window: upper bound of the items' lengths; a multiple of 32.
    """
    (t, n, h), k, dtype = q_tnh.shape, k_tkh.shape[1], k_tkh.dtype
    fill = -t % ROWS
    q_tnh, k_tkh, v_tkh, values_tnh = (
        jnp.pad(x.astype(dtype), ((0, fill), (0, 0), (0, 0))) for x in (q_tnh, k_tkh, v_tkh, values_tnh)
    )
    item_t, lse_nt = jnp.pad(item_t, (0, fill), constant_values=-1), jnp.pad(lse_nt, ((0, 0), (0, fill)))
    rows = pl.BlockSpec((ROWS, None, h), lambda i, head: (i, head, 0))
    keys = pl.BlockSpec((t + fill, None, h), lambda i, head: (0, jax.lax.div(head, n // k), 0))
    joined_tnh = pl.pallas_call(
        functools.partial(_kernel, window=window, n_keys=min(window, ROWS)),
        grid=((t + fill) // ROWS, n),
        in_specs=[
            rows,
            keys,
            keys,
            pl.BlockSpec((t + fill,), lambda i, head: (0,)),
            rows,
            pl.BlockSpec((None, ROWS), lambda i, head: (head, i)),
        ],
        out_specs=rows,
        out_shape=jax.ShapeDtypeStruct((t + fill, n, h), dtype),
        compiler_params=plgpu.CompilerParams(num_warps=4, num_stages=2),
        name="join_own_items",
        interpret=interpret,
    )(q_tnh, k_tkh, v_tkh, item_t, values_tnh, lse_nt)
    return joined_tnh[:t]


def _kernel(
    q_ref, keys_ref, values_ref, item_ref, query_values_ref, query_lse_ref, out_ref, *, window: int, n_keys: int
) -> None:
    """Process one head's tile of rows with the keys that the rows' items can reach."""
    start = pl.program_id(0) * ROWS
    row_r, item_r = start + jnp.arange(ROWS), item_ref[pl.ds(start, ROWS)]
    q_rh = q_ref[...]
    product = functools.partial(jnp.dot, preferred_element_type=jnp.float32)

    def take_in(block: Array, running: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
        values_rh, top_r, sum_r = running
        here, key_u = pl.ds(block * n_keys, n_keys), block * n_keys + jnp.arange(n_keys)
        scores_ru = product(q_rh, keys_ref[here, :].T)
        seen_ru = (item_r[:, None] == item_ref[here][None, :]) & (key_u[None, :] <= row_r[:, None])
        scores_ru = jnp.where(seen_ru, scores_ru, -jnp.inf)
        higher_r = jnp.maximum(top_r, scores_ru.max(axis=1))  # never -inf: every row sees keys of the query
        weights_ru, kept_r = jnp.exp(scores_ru - higher_r[:, None]), jnp.exp(top_r - higher_r)
        values_block_uh = values_ref[here, :]
        values_rh = kept_r[:, None] * values_rh + product(weights_ru.astype(values_block_uh.dtype), values_block_uh)
        return values_rh, higher_r, kept_r * sum_r + weights_ru.sum(axis=1)

    before = query_values_ref[...].astype(jnp.float32), query_lse_ref[...], jnp.ones(ROWS, jnp.float32)
    first = jax.lax.div(jnp.maximum(start - window, 0), n_keys)
    values_rh, _, sum_r = jax.lax.fori_loop(first, jax.lax.div(start + ROWS, n_keys), take_in, before)
    out_ref[...] = (values_rh / sum_r[:, None]).astype(out_ref.dtype)
