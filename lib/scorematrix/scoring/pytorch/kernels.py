"""PyTorch's attention kernels behind one interface. Each returns the values and the log-sum-exp of its scores."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from scorematrix.scoring.pytorch.products import matmul

FEWEST_SCORES = 2**16
"""Of a head, for which form `products` multiplies; for fewer, FlashAttention is as fast."""
MOST_SCORES = 2**20
"""Of a block, 4 MiB: they stay in the caches between products and softmax."""
LEAST_ROWS, WIDTHS = 128, 8
"""Rows of a causal block, unless its scores are too many, and different numbers of keys: oneDNN prepares each shape."""


def attend(
    q_tnh: Float[Tensor, "t n h"],
    keys_qkh: Float[Tensor, "q k h"],
    values_qkh: Float[Tensor, "q k h"],
    *,
    causal: bool,
    form: str,
) -> tuple[Float[Tensor, "t n h"], Float[Tensor, "n t"]]:
    """Attend to the query's keys, causally or to all of them: values in their format, float32 log-sum-exp."""
    q_1nth = q_tnh.to(keys_qkh.dtype).transpose(0, 1)[None]
    keys_1kqh, values_1kqh = (x.transpose(0, 1)[None] for x in (keys_qkh, values_qkh))
    aten = torch.ops.aten
    if form == "products" and q_tnh.shape[0] * keys_qkh.shape[0] >= FEWEST_SCORES:
        return _by_products(q_1nth[0], keys_qkh, values_qkh, causal)
    if form == "cudnn":  # supports fewer key heads than query heads
        output = aten._scaled_dot_product_cudnn_attention(
            q_1nth, keys_1kqh, values_1kqh, None, True, is_causal=causal, scale=1.0
        )
        return output[0][0].transpose(0, 1), output[1].reshape(q_1nth.shape[1:3])
    if form == "flex":  # supports fewer key heads, too
        values_1nth, aux = _flex()(q_1nth, keys_1kqh, values_1kqh, _causal if causal else None)
        return values_1nth[0].transpose(0, 1), aux.lse[0].float()
    groups = q_tnh.shape[1] // keys_qkh.shape[1]
    keys_1nqh, values_1nqh = (x.repeat_interleave(groups, dim=1) for x in (keys_1kqh, values_1kqh))
    if form == "efficient":
        output = aten._scaled_dot_product_efficient_attention(
            q_1nth, keys_1nqh, values_1nqh, None, True, is_causal=causal, scale=1.0
        )
    elif q_tnh.device.type == "cpu":
        output = aten._scaled_dot_product_flash_attention_for_cpu(
            q_1nth, keys_1nqh, values_1nqh, is_causal=causal, scale=1.0
        )
    else:
        output = aten._scaled_dot_product_flash_attention(q_1nth, keys_1nqh, values_1nqh, is_causal=causal, scale=1.0)
    # The memory-efficient kernel pads the rows of its log-sum-exp.
    return output[0][0].transpose(0, 1), output[1][0, :, : q_tnh.shape[0]].float()


def _by_products(
    q_nth: Float[Tensor, "n t h"], keys_qkh: Float[Tensor, "q k h"], values_qkh: Float[Tensor, "q k h"], causal: bool
) -> tuple[Float[Tensor, "t n h"], Float[Tensor, "n t"]]:
    """Attend by matrix products and softmax, a block of rows at a time, for processors whose products are oneDNN's.

    PyTorch's FlashAttention multiplies by MKL. The log-sum-exp of causal attention is not computed. Results have the
    strides of FlashAttention's, on which compiled programs depend.
    """
    (n, t, h), (q, k, _) = q_nth.shape, keys_qkh.shape
    g = n // k
    values_tkgh, lse_tkg = q_nth.new_empty(t, k, g, h), q_nth.new_empty(t, k, g)
    rows, width = -(-t // -(-t * g * q // MOST_SCORES)), q
    if causal:
        rows, width = min(rows, max(LEAST_ROWS, -(-t // WIDTHS))), -(-q // WIDTHS)
    for j in range(k):
        keys_qh, values_qh = keys_qkh[:, j].contiguous(), values_qkh[:, j].contiguous()
        q_gth = q_nth[j * g : (j + 1) * g]
        for start in range(0, t, rows):
            end = min(start + rows, t)
            seen = min(-(-end // width) * width, q)
            scores_mu = matmul(q_gth[:, start:end].reshape(-1, h), keys_qh[:seen].t())
            if causal:
                ahead_ru = torch.ones(end - start, seen - start, dtype=torch.bool).triu_(1)
                scores_mu.view(g, -1, seen)[:, :, start:].masked_fill_(ahead_ru, -torch.inf)
            weights_mu = torch.softmax(scores_mu, dim=1)
            if not causal:  # the largest weight is exp(largest score - log-sum-exp)
                lse_tkg[start:end, j] = (scores_mu.amax(1) - weights_mu.amax(1).log()).view(g, -1).t()
            values_tkgh[start:end, j] = matmul(weights_mu, values_qh[:seen]).view(g, -1, h).transpose(0, 1)
    return values_tkgh.view(t, n, h), lse_tkg.view(t, n).t()


@functools.cache
def _flex() -> Callable[..., tuple[Tensor, Any]]:
    """Compile FlexAttention for all lengths. Uncompiled, it would keep all scores in memory."""
    from torch.nn.attention.flex_attention import AuxRequest, flex_attention

    aux = AuxRequest(lse=True)
    bound = functools.partial(flex_attention, scale=1.0, enable_gqa=True, return_aux=aux)
    return torch.compile(lambda q, keys, values, modify: bound(q, keys, values, modify), dynamic=True)


def _causal(score: Tensor, batch: Tensor, head: Tensor, row: Tensor, key: Tensor) -> Tensor:
    """Mask keys ahead of a row."""
    return torch.where(row >= key, score, -torch.inf)
