"""Shared-prefix attention in JAX: parts return values and the log-sum-exp of their scores, so they merge exactly.

Additional letters: q query token, t item token, r row, u key seen by a row, b tile of rows.
Scores, softmax and sums are float32; operands are in the weights' format. Queries arrive scaled by h**-0.5.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Generic, Literal, NamedTuple, TypeVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from scorematrix.scoring.jax import joint_kernel, kernels, own_items_kernel
from scorematrix.scoring.jax.model import einsum
from scorematrix.scoring.shared_prefix import PADDING, StepShape

Form = Literal["tiles", "large_tiles", "cudnn", "pallas", "pallas_interpreted"]
"""tiles: plain operations on score tiles that stay in cache (CPU). large_tiles: the same, few and large (float32 on a
GPU). cudnn: cuDNN's kernel over the query and ours over own items (NVIDIA GPUs). pallas: our kernel for TPUs.
pallas_interpreted: the same kernel on any device, for tests."""

PALLAS = ("pallas", "pallas_interpreted")
TILE_ROWS = {"tiles": 256, "large_tiles": 2048}
BAND_ROWS = 128
CAUSAL_BANDS = 8
Tree = TypeVar("Tree")
Leaf = TypeVar("Leaf")


class Attended(NamedTuple):
    """Values averaged over the keys of one part, and the log-sum-exp of its scores."""

    values_rnh: Float[Array, "r n h"]
    lse_rn: Float[Array, "r n"]


class Prefix(NamedTuple):
    """The query's keys and values in one layer, in the weights' format; those from n_query on are padding."""

    keys_qkh: Float[Array, "q k h"]
    values_qkh: Float[Array, "q k h"]
    n_query: Int[Array, ""]


class BlockInputs(NamedTuple, Generic[Leaf]):
    """The arrays of `shared_prefix.Block`, or their shapes."""

    token_t: Int[Leaf, " t"]
    position_t: Int[Leaf, " t"]
    item_t: Int[Leaf, " t"]
    scored_s: Int[Leaf, " s"]


def attention_forms(platform: str, dtype: str, head_dim: int) -> tuple[Form, ...]:
    """Return the attention forms that a kind of device supports for a number format, the likely fastest first."""
    if platform == "cpu":
        return ("tiles",)
    if platform == "tpu":
        return ("pallas", "large_tiles")
    # cuDNN does not support float32, and our kernel supports no other head sizes.
    has_kernel = dtype == "bfloat16" and head_dim in own_items_kernel.HEAD_DIMS
    return ("cudnn", "large_tiles") if has_kernel else ("large_tiles", "tiles")


@jax.named_scope("own_items")
def merge(a: Attended, b: Attended) -> Float[Array, "r n h"]:
    """Merge two parts into the attention over the keys of both."""
    top_rn = jnp.maximum(a.lse_rn, b.lse_rn)
    share_a_rn, share_b_rn = jnp.exp(a.lse_rn - top_rn), jnp.exp(b.lse_rn - top_rn)
    values_rnh = share_a_rn[..., None] * a.values_rnh + share_b_rn[..., None] * b.values_rnh
    return values_rnh / (share_a_rn + share_b_rn)[..., None]


def find_own_items(blocks: Sequence[BlockInputs[Array]], shape: StepShape, form: Form) -> list[Array]:
    """Return which keys belong to each row's item, for all layers: each block's tile bias, or each row's item."""
    if form in PALLAS:
        return [joint_kernel.item_of_rows([block.item_t for block in blocks], shape)]
    if form == "cudnn":
        return [block.item_t for block in blocks]
    return [tile_bias(block.item_t, size.tile, size.window) for block, size in zip(blocks, shape.blocks, strict=True)]


def rows_computed(shape: StepShape, form: Form) -> int:
    """Return the number of tokens of a step, including the padding of a kernel's last block."""
    return joint_kernel.whole_blocks(shape.n_tokens) if form in PALLAS else shape.n_tokens


def joint_attention(
    q_tnh: Array, k_tkh: Array, v_tkh: Array, prefix: Prefix, own_items: Sequence[Array], shape: StepShape, form: Form
) -> Float[Array, "t n h"]:
    """Compute every token's attention: query tokens over the query, item tokens over the query and their item."""
    if form in PALLAS:
        return joint_kernel.joint_attention(
            q_tnh, k_tkh, v_tkh, *prefix, own_items[0], shape, interpret=form == "pallas_interpreted"
        )
    parts = [query_attention(q_tnh[: shape.q], prefix, form)] if shape.with_query else []
    for item_or_bias, size, here in zip(own_items, shape.blocks, shape.block_slices, strict=True):
        if form == "cudnn":
            with jax.named_scope("prefix_attention"):
                over_query = kernels.attend(q_tnh[here], *prefix, causal=False)
            parts.append(
                own_items_kernel.join_own_items(
                    q_tnh[here], k_tkh[here], v_tkh[here], item_or_bias, *over_query, size.window
                )
            )
            continue
        q_brnh = tiled_rows(q_tnh[here], size.tile)
        keys_bukh, values_bukh = (tiled_windows(x[here], size.tile, size.window) for x in (k_tkh, v_tkh))
        over_item = own_attention(q_brnh, keys_bukh, values_bukh, item_or_bias, size.t)
        parts.append(merge(prefix_attention(q_tnh[here], prefix, form), over_item))
    return jnp.concatenate(parts)


def scored_attention(
    q_snh: Array,
    k_tkh: Array,
    v_tkh: Array,
    prefix: Prefix,
    blocks: Sequence[BlockInputs[Array]],
    shape: StepShape,
    form: Form,
) -> Float[Array, "s n h"]:
    """Compute the attention of the scored positions only: the last layer needs no other."""
    parts, start = [], 0
    for block, size, here in zip(blocks, shape.blocks, shape.block_slices, strict=True):
        # The window ends at the scored token, the last of its item, so none of its keys is ahead.
        index_su = block.scored_s[:, None] - jnp.arange(size.window)
        same_su = block.item_t[index_su] == block.item_t[block.scored_s][:, None]
        bias_su = jnp.where((index_su >= 0) & same_su, 0.0, -jnp.inf)
        q_s1nh = q_snh[start : start + size.s, None]
        parts.append(own_attention(q_s1nh, k_tkh[here][index_su], v_tkh[here][index_su], bias_su[:, None], size.s))
        start += size.s
    over_item = Attended(*(jnp.concatenate(arrays) for arrays in zip(*parts, strict=True)))
    return merge(prefix_attention(q_snh, prefix, form), over_item)


@jax.named_scope("query_attention")
def query_attention(q_qnh: Float[Array, "q n h"], prefix: Prefix, form: Form) -> Float[Array, "q n h"]:
    """Compute the query's causal attention over itself. The values of padding rows are arbitrary."""
    if form not in TILE_ROWS:
        return kernels.attend(q_qnh, *prefix, causal=True)[0]
    q = q_qnh.shape[0]
    band = -(-q // max(1, min(CAUSAL_BANDS, q // BAND_ROWS)) // BAND_ROWS) * BAND_ROWS
    bands = []
    for start in range(0, q, band):  # a band of rows sees no keys beyond its end
        end = min(start + band, q)
        keys_kuh, values_kue = heads_first(prefix.keys_qkh[:end]), with_ones(heads_first(prefix.values_qkh[:end]))

        def attend(row_r: Array, end=end, keys_kuh=keys_kuh, values_kue=values_kue) -> Array:
            seen_ru = row_r[:, None] >= jnp.arange(end)
            return attend_tile(q_qnh[row_r], keys_kuh, values_kue, seen_ru).values_rnh

        bands.append(in_tiles(attend, jnp.arange(start, end), BAND_ROWS if form == "tiles" else band))
    return jnp.concatenate(bands)


@jax.named_scope("prefix_attention")
def prefix_attention(q_tnh: Float[Array, "t n h"], prefix: Prefix, form: Form) -> Attended:
    """Compute the item tokens' attention over the query, where only padding must be excluded."""
    if form not in TILE_ROWS:
        values_tnh, lse_nt = kernels.attend(q_tnh, *prefix, causal=False)
        return Attended(values_tnh.astype(jnp.float32), lse_nt.T)
    keys_kuh, values_kuh = heads_first(prefix.keys_qkh), heads_first(prefix.values_qkh)
    # Padding keys repeat the first key and add nothing to values or sum, so score tiles need no mask.
    real_u1 = (jnp.arange(keys_kuh.shape[1]) < prefix.n_query)[:, None]
    keys_kuh = jnp.where(real_u1, keys_kuh, keys_kuh[:, :1])
    values_kuh = jnp.where(real_u1, with_ones(values_kuh), 0)
    return in_tiles(lambda q_rnh: attend_tile(q_rnh, keys_kuh, values_kuh), q_tnh, TILE_ROWS[form])


def in_tiles(function: Callable[[Array], Tree], x_t: Array, rows: int) -> Tree:
    """Apply a function of rows to one tile of `rows` rows after the other."""
    n_whole = x_t.shape[0] // rows * rows
    if n_whole == 0:
        return function(x_t)
    tiles = jax.lax.map(function, x_t[:n_whole].reshape(-1, rows, *x_t.shape[1:]))
    done = jax.tree.map(lambda tile: tile.reshape(n_whole, *tile.shape[2:]), tiles)
    if n_whole == x_t.shape[0]:
        return done
    return jax.tree.map(lambda a, b: jnp.concatenate([a, b]), done, function(x_t[n_whole:]))


def attend_tile(
    q_rnh: Float[Array, "r n h"],
    keys_kuh: Float[Array, "k u h"],
    values_kue: Float[Array, "k u e"],
    seen_ru: Bool[Array, "r u"] | None = None,
) -> Attended:
    """Compute the attention of rows over keys, one key/value head at a time, so that a score tile stays in cache.

    The last column of `values_kue` is ones, so the same product also sums the weights.
    """
    r, n, h = q_rnh.shape
    k = keys_kuh.shape[0]
    dtype = keys_kuh.dtype
    q_kmh = jnp.einsum("rkgh->kgrh", q_rnh.reshape(r, k, n // k, h)).reshape(k, -1, h)
    values, lse = [], []
    for q_mh, keys_uh, values_ue in zip(q_kmh, keys_kuh, values_kue, strict=True):
        scores_mu = einsum("mh,uh->mu", q_mh, keys_uh, dtype)
        if seen_ru is not None:
            scores_mu = jnp.where(seen_ru, scores_mu.reshape(n // k, r, -1), -jnp.inf).reshape(scores_mu.shape)
        top_m1 = scores_mu.max(axis=-1, keepdims=True)
        sums_me = einsum("mu,ue->me", jnp.exp(scores_mu - top_m1), values_ue, dtype)
        values.append(sums_me[:, :h] / sums_me[:, h:])
        lse.append(top_m1[:, 0] + jnp.log(sums_me[:, h]))
    values_rnh = jnp.einsum("kgrh->rkgh", jnp.stack(values).reshape(k, -1, r, h)).reshape(r, n, h)
    return Attended(values_rnh, jnp.einsum("kgr->rkg", jnp.stack(lse).reshape(k, -1, r)).reshape(r, n))


@jax.named_scope("own_items")
def own_attention(
    q_brnh: Float[Array, "b r n h"],
    keys_bukh: Float[Array, "b u k h"],
    values_bukh: Float[Array, "b u k h"],
    bias_bru: Float[Array, "b r u"],
    t: int,
) -> Attended:
    """Compute the attention of each tile of rows over a window of keys that contains the rows' items.

    Returns:
        the first t rows, flat.
    """
    b, r, n, h = q_brnh.shape
    k = keys_bukh.shape[2]
    dtype = keys_bukh.dtype
    q_bkmh = jnp.einsum("brkgh->bkgrh", q_brnh.reshape(b, r, k, n // k, h)).reshape(b, k, -1, h)
    scores_bkmu = einsum("bkmh,bukh->bkmu", q_bkmh, keys_bukh, dtype)
    scores_bkmu = (scores_bkmu.reshape(b, k, n // k, r, -1) + bias_bru[:, None, None]).reshape(scores_bkmu.shape)
    top_bkm1 = scores_bkmu.max(axis=-1, keepdims=True)
    sums_bkme = einsum("bkmu,bukh->bkmh", jnp.exp(scores_bkmu - top_bkm1), with_ones(values_bukh), dtype)
    values_bkgrh = (sums_bkme[..., :h] / sums_bkme[..., h:]).reshape(b, k, -1, r, h)
    lse_bkgr = (top_bkm1[..., 0] + jnp.log(sums_bkme[..., h])).reshape(b, k, -1, r)
    values_brkgh, lse_brkg = jnp.einsum("bkgrh->brkgh", values_bkgrh), jnp.einsum("bkgr->brkg", lse_bkgr)
    return Attended(values_brkgh.reshape(-1, n, h)[:t], lse_brkg.reshape(-1, n)[:t])


def tiled_rows(x_t: Array, tile: int, fill: int = 0) -> Array:
    """Split rows into tiles: [t, ...] to [b, tile, ...]. The last tile is padded."""
    padded = jnp.pad(x_t, ((0, -x_t.shape[0] % tile), *[(0, 0)] * (x_t.ndim - 1)), constant_values=fill)
    return padded.reshape(-1, tile, *x_t.shape[1:])


@jax.named_scope("own_items")
def tiled_windows(x_t: Array, tile: int, window: int, fill: int = 0) -> Array:
    """Return each tile of rows preceded by the `window` rows before it: [t, ...] to [b, window + tile, ...]."""
    t = x_t.shape[0] + -x_t.shape[0] % tile
    padded = jnp.pad(x_t, ((window, t - x_t.shape[0]), *[(0, 0)] * (x_t.ndim - 1)), constant_values=fill)
    shifts = [padded[i : i + t].reshape(-1, tile, *x_t.shape[1:]) for i in range(0, window + tile, tile)]
    return jnp.concatenate(shifts, axis=1)


@jax.named_scope("own_items")
def tile_bias(item_t: Int[Array, " t"], tile: int, window: int) -> Float[Array, "b r u"]:
    """Return the bias added to each tile's scores: 0 for keys of the row's item that are not ahead, else -inf."""
    item_bu = tiled_windows(item_t, tile, window, fill=PADDING - 1)
    not_ahead_ru = jnp.arange(tile)[:, None] + window >= jnp.arange(window + tile)
    seen_bru = (tiled_rows(item_t, tile, fill=PADDING)[:, :, None] == item_bu[:, None, :]) & not_ahead_ru
    return jnp.where(seen_bru, 0.0, -jnp.inf)


def heads_first(x_ukh: Float[Array, "u k h"]) -> Float[Array, "k u h"]:
    """Move the head axis first, so that each head's rows are adjacent."""
    return jnp.einsum("ukh->kuh", x_ukh)


def with_ones(values: Float[Array, "... h"]) -> Float[Array, "... e"]:
    """Append a column of ones to the values."""
    return jnp.concatenate([values, jnp.ones_like(values[..., :1])], axis=-1)
