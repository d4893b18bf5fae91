"""Shared-prefix attention in PyTorch: parts give values and the log-sum-exp of their scores, and merge exactly.

Letters beside the folder's: q query token, t item token, r row, u key seen by a row, b tile of rows.
Scores, softmax and sums are float32; operands are in the weights' format. Queries come in scaled by h**-0.5.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from scorematrix.scoring.pytorch import kernels
from scorematrix.scoring.pytorch.model import einsum
from scorematrix.scoring.shared_prefix import PADDING


class Attended(NamedTuple):
    """Values averaged over the keys of one part, and the log-sum-exp of its scores."""

    values_rnh: Float[Tensor, "r n h"]
    lse_rn: Float[Tensor, "r n"]


class Prefix(NamedTuple):
    """The query's keys and values in one layer, in the weights' format."""

    keys_qkh: Float[Tensor, "q k h"]
    values_qkh: Float[Tensor, "q k h"]


def merge(a: Attended, b: Attended) -> Float[Tensor, "r n h"]:
    """The attention over both parts' keys together."""
    top_rn = torch.maximum(a.lse_rn, b.lse_rn)
    share_a_rn, share_b_rn = torch.exp(a.lse_rn - top_rn), torch.exp(b.lse_rn - top_rn)
    values_rnh = share_a_rn[..., None] * a.values_rnh + share_b_rn[..., None] * b.values_rnh
    return values_rnh / (share_a_rn + share_b_rn)[..., None]


def query_attention(q_qnh: Float[Tensor, "q n h"], prefix: Prefix) -> Float[Tensor, "q n h"]:
    """The query over itself, causally."""
    return kernels.attend(q_qnh, *prefix, causal=True)[0]


def prefix_attention(q_tnh: Float[Tensor, "t n h"], prefix: Prefix) -> Attended:
    """Item tokens over the whole query: nothing to mask."""
    return Attended(*kernels.attend(q_tnh, *prefix, causal=False))


def own_attention(
    q_brnh: Float[Tensor, "b r n h"],
    keys_bukh: Float[Tensor, "b u k h"],
    values_bukh: Float[Tensor, "b u k h"],
    bias_bru: Float[Tensor, "b r u"],
) -> Attended:
    """Tiles of rows, each over a window of keys that holds the rows' own items. Rows come out flat: r is b x r."""
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
    """Every tile of rows behind the `window` rows before it: [t, ...] to [b, window + tile, ...]."""
    padded = torch.cat([x_t.new_full((window, *x_t.shape[1:]), fill), x_t])
    return padded.unfold(0, window + tile, tile).movedim(-1, 1)


def tile_bias(item_t: Int[Tensor, " t"], tile: int, window: int) -> Float[Tensor, "b r u"]:
    """What is added to the scores of every tile's rows: 0 for a key of the row's own item, not ahead, else -inf."""
    item_bu = tiled_windows(item_t, tile, window, fill=PADDING - 1)
    rows, keys = torch.arange(tile, device=item_t.device), torch.arange(window + tile, device=item_t.device)
    not_ahead_ru = rows[:, None] + window >= keys
    seen_bru = (item_t.reshape(-1, tile)[:, :, None] == item_bu[:, None, :]) & not_ahead_ru
    return torch.where(seen_bru, 0.0, -torch.inf)
