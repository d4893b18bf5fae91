"""Shared-prefix attention in PyTorch: parts return values and the log-sum-exp of their scores, so they merge exactly.

Additional letters: q query token, t item token, r row, u key seen by a row, b tile of rows.
Scores, softmax and sums are float32; operands are in the weights' format. Queries arrive scaled by h**-0.5.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from typing import Literal, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from scorematrix.scoring.pytorch import kernels
from scorematrix.scoring.pytorch.compiled import compiled
from scorematrix.scoring.pytorch.device import compute_dtype
from scorematrix.scoring.pytorch.model import einsum
from scorematrix.scoring.pytorch.products import matmul_name
from scorematrix.scoring.pytorch.profiles import part
from scorematrix.scoring.shared_prefix import PADDING, StepShape

Form = Literal["flash", "efficient", "cudnn", "flash_joined", "flex", "products"]
"""flash: PyTorch's FlashAttention over the query, plain operations over own items. efficient: the same with the
memory-efficient kernel, which supports float32 on a GPU. cudnn: cuDNN's kernel over the query and ours over own items
(GPUs). flash_joined, flex: FlashAttention or FlexAttention over the query, and our kernel. products: matrix products
and softmax over the query, where products are oneDNN's (some CPUs)."""
JOINED = ("cudnn", "flash_joined", "flex")
"""Forms in which our kernel joins the attention over own items with that over the query."""


HEAD_DIMS = (16, 32, 64, 128, 256)
"""Head sizes that our kernel supports: powers of two."""


class Attended(NamedTuple):
    """Values averaged over the keys of one part, and the log-sum-exp of its scores."""

    values_rnh: Float[Tensor, "r n h"]
    lse_rn: Float[Tensor, "r n"]


class Prefix(NamedTuple):
    """The query's keys and values in one layer, in the weights' format."""

    keys_qkh: Float[Tensor, "q k h"]
    values_qkh: Float[Tensor, "q k h"]


class BlockInputs(NamedTuple):
    """The arrays of `shared_prefix.Block`."""

    token_t: Int[Tensor, " t"]
    position_t: Int[Tensor, " t"]
    item_t: Int[Tensor, " t"]
    scored_s: Int[Tensor, " s"]


def attention_forms(device: torch.device, dtype: str, head_dim: int) -> tuple[Form, ...]:
    """Return the attention forms that a kind of device supports for a number format, the likely fastest first."""
    if device.type == "cpu":
        return ("products", "flash") if matmul_name(device, compute_dtype(dtype)) == "oneDNN" else ("flash",)
    if dtype == "float32":
        return ("efficient",)  # the other forms do not support it
    if head_dim not in HEAD_DIMS or importlib.util.find_spec("triton") is None:
        return ("flash", "efficient")
    joined: tuple[Form, ...] = ("flash_joined", "flex")
    return (*(("cudnn",) if torch.backends.cudnn.is_available() else ()), *joined, "flash", "efficient")


def merge(a: Attended, b: Attended) -> Float[Tensor, "r n h"]:
    """Merge two parts into the attention over the keys of both."""
    top_rn = torch.maximum(a.lse_rn, b.lse_rn)
    share_a_rn, share_b_rn = torch.exp(a.lse_rn - top_rn), torch.exp(b.lse_rn - top_rn)
    values_rnh = share_a_rn[..., None] * a.values_rnh + share_b_rn[..., None] * b.values_rnh
    return values_rnh / (share_a_rn + share_b_rn)[..., None]


def find_own_items(blocks: Sequence[BlockInputs], shape: StepShape, form: Form) -> list[Tensor]:
    """Return which keys belong to each row's item, for all layers: each block's tile bias, or each row's item."""
    if form in JOINED:
        return [block.item_t for block in blocks]
    return [tile_bias(block.item_t, size.tile, size.window) for block, size in zip(blocks, shape.blocks, strict=True)]


def joint_attention(
    q_tnh: Tensor,
    k_tkh: Tensor,
    v_tkh: Tensor,
    prefix: Prefix,
    own_items: Sequence[Tensor],
    shape: StepShape,
    form: Form,
) -> Float[Tensor, "t n h"]:
    """Compute every token's attention: query tokens over the query, item tokens over the query and their item."""
    if form in JOINED:
        attended_tnh = torch.empty_like(q_tnh)
        if shape.with_query:
            attended_tnh[: shape.q] = query_attention(q_tnh[: shape.q], prefix, form)
        for item_t, size, here in zip(own_items, shape.blocks, shape.block_slices, strict=True):
            with part("prefix_attention"):
                over_query = kernels.attend(q_tnh[here], *prefix, causal=False, form=form)
            block_tensors = (q_tnh[here], k_tkh[here], v_tkh[here], item_t)
            with part("own_items"):
                join_own_items(*block_tensors, *over_query, attended_tnh[here], size.window)
        return attended_tnh
    parts = [query_attention(q_tnh[: shape.q], prefix, form).float()] if shape.with_query else []
    for bias_bru, size, here in zip(own_items, shape.blocks, shape.block_slices, strict=True):
        over_query = prefix_attention(q_tnh[here], prefix, form)
        block_tensors = (q_tnh[here], k_tkh[here], v_tkh[here], bias_bru, *over_query)
        with part("own_items"):
            parts.append(with_own_items(size.tile, size.window, *block_tensors))
    return torch.cat(parts)


def scored_attention(
    q_snh: Tensor,
    k_tkh: Tensor,
    v_tkh: Tensor,
    prefix: Prefix,
    blocks: Sequence[BlockInputs],
    shape: StepShape,
    form: Form,
) -> Float[Tensor, "s n h"]:
    """Compute the attention of the scored positions only: the last layer needs no other."""
    parts, start = [], 0
    for block, size, here in zip(blocks, shape.blocks, shape.block_slices, strict=True):
        # The window ends at the scored token, the last of its item, so none of its keys is ahead.
        index_su = block.scored_s[:, None] - torch.arange(size.window, device=q_snh.device)
        same_su = block.item_t[index_su.clamp(min=0)] == block.item_t[block.scored_s][:, None]
        bias_su = torch.where((index_su >= 0) & same_su, 0.0, -torch.inf)
        index_su = index_su.clamp(min=0)
        q_s1nh = q_snh[start : start + size.s, None]
        with part("own_items"):
            parts.append(own_attention(q_s1nh, k_tkh[here][index_su], v_tkh[here][index_su], bias_su[:, None]))
        start += size.s
    over_item = Attended(*(torch.cat(tensors) for tensors in zip(*parts, strict=True)))
    return merge(prefix_attention(q_snh, prefix, form), over_item)


@compiled
def with_own_items(
    tile: int,
    window: int,
    q_tnh: Tensor,
    k_tkh: Tensor,
    v_tkh: Tensor,
    bias_bru: Float[Tensor, "b r u"],
    values_tnh: Tensor,
    lse_tn: Tensor,
) -> Float[Tensor, "t n h"]:
    """Compute a block's attention over each token's item and merge it with its attention over the query."""
    q_brnh = q_tnh.reshape(-1, tile, *q_tnh.shape[1:])
    keys_bukh, values_bukh = (tiled_windows(x, tile, window) for x in (k_tkh, v_tkh))
    over_item = own_attention(q_brnh, keys_bukh, values_bukh, bias_bru)
    return merge(Attended(values_tnh, lse_tn), over_item)


@torch.library.custom_op("scorematrix::join_own_items", mutates_args=["out_tnh"])
def join_own_items(
    q_tnh: Tensor,
    k_tkh: Tensor,
    v_tkh: Tensor,
    item_t: Tensor,
    values_tnh: Tensor,
    lse_nt: Tensor,
    out_tnh: Tensor,
    window: int,
) -> None:
    """Compute the attention of a block's rows over the query and their items: one kernel on an NVIDIA GPU.

    Args:
        q_tnh: scaled.
        item_t: which item of the block each row belongs to.
        values_tnh: attention over the query alone, and `lse_nt` the log-sum-exp of its scores.
        out_tnh: receives the result.
        window: upper bound of the items' lengths; a multiple of 32.
    """
    from scorematrix.scoring.pytorch import own_items_kernel

    own_items_kernel.launch(q_tnh, k_tkh, v_tkh, item_t, values_tnh, lse_nt, out_tnh, window)


def query_attention(q_qnh: Float[Tensor, "q n h"], prefix: Prefix, form: Form) -> Float[Tensor, "q n h"]:
    """Compute the query's causal attention over itself."""
    with part("query_attention"):
        return kernels.attend(q_qnh, *prefix, causal=True, form=form)[0]


def prefix_attention(q_tnh: Float[Tensor, "t n h"], prefix: Prefix, form: Form) -> Attended:
    """Compute the item tokens' attention over the query, where nothing must be excluded."""
    with part("prefix_attention"):
        values_tnh, lse_nt = kernels.attend(q_tnh, *prefix, causal=False, form=form)
    return Attended(values_tnh.float(), lse_nt.transpose(0, 1))


def own_attention(
    q_brnh: Float[Tensor, "b r n h"],
    keys_bukh: Float[Tensor, "b u k h"],
    values_bukh: Float[Tensor, "b u k h"],
    bias_bru: Float[Tensor, "b r u"],
) -> Attended:
    """Compute the attention of each tile of rows over a window of keys that contains the rows' items.

    Returns:
        rows, flat: r is b x r.
    """
    b, r, n, h = q_brnh.shape
    k = keys_bukh.shape[2]
    dtype = keys_bukh.dtype
    q_bkmh = torch.einsum("brkgh->bkgrh", q_brnh.reshape(b, r, k, n // k, h)).reshape(b, k, -1, h)
    scores_bkmu = einsum("bkmh,bukh->bkmu", q_bkmh, keys_bukh, dtype)
    scores_bkgru = scores_bkmu.reshape(b, k, n // k, r, -1) + bias_bru[:, None, None]
    lse_bkgr = torch.logsumexp(scores_bkgru, dim=-1)
    weights_bkmu = torch.exp(scores_bkgru - lse_bkgr[..., None]).reshape(scores_bkmu.shape)
    values_bkgrh = einsum("bkmu,bukh->bkmh", weights_bkmu, values_bukh, dtype).reshape(b, k, -1, r, h)
    values_brkgh, lse_brkg = torch.einsum("bkgrh->brkgh", values_bkgrh), torch.einsum("bkgr->brkg", lse_bkgr)
    return Attended(values_brkgh.reshape(-1, n, h), lse_brkg.reshape(-1, n))


def tiled_windows(x_t: Tensor, tile: int, window: int, fill: int = 0) -> Tensor:
    """Return each tile of rows preceded by the `window` rows before it: [t, ...] to [b, window + tile, ...]."""
    padded = torch.cat([x_t.new_full((window, *x_t.shape[1:]), fill), x_t])
    return padded.unfold(0, window + tile, tile).movedim(-1, 1)


def tile_bias(item_t: Int[Tensor, " t"], tile: int, window: int) -> Float[Tensor, "b r u"]:
    """Return the bias added to each tile's scores: 0 for keys of the row's item that are not ahead, else -inf."""
    item_bu = tiled_windows(item_t, tile, window, fill=PADDING - 1)
    rows, keys = torch.arange(tile, device=item_t.device), torch.arange(window + tile, device=item_t.device)
    not_ahead_ru = rows[:, None] + window >= keys
    seen_bru = (item_t.reshape(-1, tile)[:, :, None] == item_bu[:, None, :]) & not_ahead_ru
    return torch.where(seen_bru, 0.0, -torch.inf)
