"""A step's attention on a TPU in one Pallas kernel: every row over the query, then over its item, in one softmax.

For each head and block of rows, keys pass in blocks: the query's first, then those that the rows' items can reach. Each
row has a running maximum, sum and weighted values, so no score leaves the chip's vector memory and there is nothing to
merge. Rows lie along the lanes: reductions over keys go down a column, all products are plain ones, and XLA gives the
result of a projection the same layout.

Additional letters: r row of a block, u key of a block.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import pallas as pl
from jax.experimental.pallas import tpu as pltpu
from jaxtyping import Array, Float, Int

from scorematrix.scoring.shared_prefix import PADDING, StepShape

KEYS = 512
"""Query keys whose scores are computed at once."""
QUERY_KEYS = 1024
"""Query keys that are loaded at once."""
QUERY_ROW, QUERY_KEY = -2, -3
"""Item numbers of the query's tokens, as rows and as keys. They differ, so they match nothing in the items' part."""


def whole_blocks(n: int) -> int:
    """Return the number of rows that are computed for n rows."""
    return pl.cdiv(n, block_rows(n)) * block_rows(n)


def block_rows(n: int) -> int:
    """Return the rows of a block and the keys of an items' block. Large blocks are faster; small ones pad less."""
    return 512 if n >= 4096 else 256 if n >= 1024 else 128


def item_of_rows(items: Sequence[Int[Array, " t"]], shape: StepShape) -> Int[Array, " t"]:
    """Return every row's item, numbered through the step: the query's rows, each block's, the last block's padding."""
    numbered, before = [jnp.full(shape.n_query_tokens, QUERY_ROW)], 0
    for item_t, size in zip(items, shape.blocks, strict=True):
        numbered.append(jnp.where(item_t == PADDING, PADDING, item_t + before))
        before += size.s
    return jnp.concatenate([*numbered, jnp.full(whole_blocks(shape.n_tokens) - shape.n_tokens, PADDING)])


@jax.named_scope("prefix_attention")
def joint_attention(
    q_tnh: Float[Array, "t n h"],
    k_tkh: Float[Array, "t k h"],
    v_tkh: Float[Array, "t k h"],
    keys_qkh: Float[Array, "q k h"],
    values_qkh: Float[Array, "q k h"],
    n_query: Int[Array, ""],
    item_t: Int[Array, " t"],
    shape: StepShape,
    *,
    interpret: bool = False,
) -> Float[Array, "t n h"]:
    """Compute the attention of all rows of a step, in the keys' format.

    Args:
        q_tnh: scaled; t is from `whole_blocks`.
        keys_qkh: the query's; those from n_query on are padding.
        item_t: from `item_of_rows`.
    """
    (t, n, h), k, dtype = q_tnh.shape, k_tkh.shape[1], k_tkh.dtype
    n_rows = block_rows(shape.n_tokens)
    # The query's keys are padded to full chunks, and these to full blocks; the padding lies beyond n_query.
    block_u = min(QUERY_KEYS, pl.cdiv(shape.q, KEYS) * KEYS)
    n_query_blocks = pl.cdiv(shape.q, block_u)
    fill = ((0, n_query_blocks * block_u - shape.q), (0, 0), (0, 0))
    first_block = _first_own_blocks(shape, t, n_rows)
    n_own_blocks = max(1 + i - first for i, first in enumerate(first_block))
    # How many query keys a row sees: all, or, for a row of the query, those up to its position.
    row_t = jnp.arange(t)
    limit_t = jnp.where(row_t < shape.n_query_tokens, jnp.minimum(row_t + 1, n_query), n_query)
    limit_br = limit_t.reshape(-1, n_rows)
    bounds = jnp.stack([jnp.asarray(first_block, jnp.int32), limit_br.min(axis=1), limit_br.max(axis=1)])
    key_item_t = jnp.where(item_t == QUERY_ROW, QUERY_KEY, item_t)

    def key_head(head: Array) -> Array:
        return jax.lax.div(head, n // k)  # "//" would look for a TPU

    def query_block(j: Array) -> Array:
        return jnp.minimum(j, n_query_blocks - 1)

    def own_block(i: Array, j: Array, bounds: Array) -> Array:
        return jnp.clip(_own_block(i, j, n_own_blocks), jnp.minimum(bounds[0, i], i), i)

    rows = pl.BlockSpec((None, h, n_rows), lambda head, i, j, bounds: (head, 0, i))
    of_rows = pl.BlockSpec((1, n_rows), lambda head, i, j, bounds: (0, i))
    in_specs = [
        rows,
        of_rows,
        of_rows,
        pl.BlockSpec((None, block_u, h), lambda head, i, j, bounds: (key_head(head), query_block(j), 0)),
        pl.BlockSpec((None, h, block_u), lambda head, i, j, bounds: (key_head(head), 0, query_block(j))),
        pl.BlockSpec((None, n_rows, h), lambda head, i, j, bounds: (key_head(head), own_block(i, j, bounds), 0)),
        pl.BlockSpec((None, h, n_rows), lambda head, i, j, bounds: (key_head(head), 0, own_block(i, j, bounds))),
        pl.BlockSpec((n_rows, 1), lambda head, i, j, bounds: (own_block(i, j, bounds), 0)),
    ]
    running = [(1, n_rows), (1, n_rows), (h, n_rows)]
    n_seen = n * t * (shape.q + n_own_blocks * n_rows)
    values_nht = pl.pallas_call(
        functools.partial(_kernel, n_query_blocks=n_query_blocks, n_own_blocks=n_own_blocks),
        grid_spec=pltpu.PrefetchScalarGridSpec(
            num_scalar_prefetch=1,
            grid=(n, t // n_rows, max(n_query_blocks, n_own_blocks)),
            in_specs=in_specs,
            out_specs=rows,
            scratch_shapes=[pltpu.VMEM(size, jnp.float32) for size in running],
        ),
        out_shape=jax.ShapeDtypeStruct((n, h, t), dtype),
        compiler_params=pltpu.CompilerParams(dimension_semantics=("parallel", "parallel", "arbitrary")),
        cost_estimate=pl.CostEstimate(
            flops=4 * n_seen * h, transcendentals=n_seen, bytes_accessed=dtype.itemsize * t * h * 2 * (n + k)
        ),
        name="joint_attention",
        interpret=interpret,
    )(
        bounds,
        jnp.einsum("tnh->nht", q_tnh.astype(dtype)),
        limit_t[None],
        item_t[None],
        jnp.einsum("ukh->kuh", jnp.pad(keys_qkh, fill)),
        jnp.einsum("ukh->khu", jnp.pad(values_qkh, fill)),
        jnp.einsum("ukh->kuh", k_tkh),
        jnp.einsum("ukh->khu", v_tkh),
        key_item_t[:, None],
    )
    return jnp.einsum("nht->tnh", values_nht)


def _kernel(
    bounds_ref,
    q_ref,
    limit_ref,
    item_ref,
    query_keys_ref,
    query_values_ref,
    keys_ref,
    values_ref,
    key_item_ref,
    out_ref,
    top_ref,
    sum_ref,
    values_sum_ref,
    *,
    n_query_blocks: int,
    n_own_blocks: int,
) -> None:
    """Process one head's block of rows with a block of the query's keys and a block of their items' keys.

    Args:
        bounds_ref: for each block of rows, the first block of keys that the rows' items reach, and the fewest and the
            most query keys that one of its rows sees.
    """
    i, j, n_rows = pl.program_id(1), pl.program_id(2), q_ref.shape[1]
    first_own, least_seen, most_seen = bounds_ref[0, i], bounds_ref[1, i], bounds_ref[2, i]
    exact = jax.lax.Precision.HIGHEST if q_ref.dtype == jnp.float32 else None
    product = functools.partial(jnp.dot, precision=exact, preferred_element_type=jnp.float32)

    @pl.when(j == 0)
    def begin() -> None:
        top_ref[...] = jnp.full_like(top_ref, -jnp.inf)
        sum_ref[...] = jnp.zeros_like(sum_ref)
        values_sum_ref[...] = jnp.zeros_like(values_sum_ref)

    def take_in(keys_uh: Array, values_hu: Array, seen_ur: Array | None) -> None:
        """Add some keys to the softmax's running maximum and sums."""
        scores_ur = product(keys_uh, q_ref[...])
        if seen_ur is not None:
            scores_ur = jnp.where(seen_ur, scores_ur, -jnp.inf)
        top_1r = jnp.maximum(top_ref[...], scores_ur.max(axis=0, keepdims=True))
        weights_ur, kept_1r = jnp.exp(scores_ur - top_1r), jnp.exp(top_ref[...] - top_1r)
        sum_ref[...] = kept_1r * sum_ref[...] + weights_ur.sum(axis=0, keepdims=True)
        values_sum_ref[...] = kept_1r * values_sum_ref[...] + product(values_hu, weights_ur.astype(values_hu.dtype))
        top_ref[...] = top_1r

    for start in range(0, query_keys_ref.shape[0], KEYS):
        chunk, key = slice(start, start + KEYS), j * query_keys_ref.shape[0] + start

        @pl.when((j < n_query_blocks) & (key + KEYS <= least_seen))
        def seen_by_all(chunk: slice = chunk) -> None:
            take_in(query_keys_ref[chunk, :], query_values_ref[:, chunk], None)

        @pl.when((j < n_query_blocks) & (key + KEYS > least_seen) & (key < most_seen))
        def seen_by_some(chunk: slice = chunk, key: Array = key) -> None:
            key_ur = key + jax.lax.broadcasted_iota(jnp.int32, (KEYS, n_rows), 0)
            take_in(query_keys_ref[chunk, :], query_values_ref[:, chunk], key_ur < limit_ref[...])

    block = _own_block(i, j, n_own_blocks)

    @pl.when((block >= first_own) & (block <= i))
    def own_items() -> None:
        key_ur = block * n_rows + jax.lax.broadcasted_iota(jnp.int32, (n_rows, n_rows), 0)
        row_ur = i * n_rows + jax.lax.broadcasted_iota(jnp.int32, (n_rows, n_rows), 1)
        take_in(keys_ref[...], values_ref[...], (key_item_ref[...] == item_ref[...]) & (key_ur <= row_ur))

    @pl.when(j == pl.num_programs(2) - 1)
    def end() -> None:
        out_ref[...] = (values_sum_ref[...] / sum_ref[...]).astype(out_ref.dtype)


def _own_block(i: Array, j: Array, n_own_blocks: int) -> Array:
    """Return the j-th block of keys for row block i; the last one is block i. Any before the items' first is void."""
    return i - (n_own_blocks - 1) + j


def _first_own_blocks(shape: StepShape, t: int, n_rows: int) -> list[int]:
    """Return the first block of keys that each row block's items reach; the next block if all rows are the query's."""
    window_t = np.zeros(t, np.int64)  # the query's rows have none
    for size, here in zip(shape.blocks, shape.block_slices, strict=True):
        window_t[here] = size.window
    reach_t = np.arange(t) - np.maximum(window_t - 1, 0)
    starts = range(0, t, n_rows)
    return [
        max(int(reach_t[start : start + n_rows].min()) // n_rows, 0)
        if window_t[start : start + n_rows].any()
        else start // n_rows + 1
        for start in starts
    ]
