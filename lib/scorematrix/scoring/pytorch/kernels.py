"""PyTorch's attention kernels behind one interface. Each returns the values and the log-sum-exp of its scores."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor


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
