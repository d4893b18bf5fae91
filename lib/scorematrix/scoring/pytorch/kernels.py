"""PyTorch's own attention kernels behind one face; each gives the log-sum-exp of its scores beside the values."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor


def attend(
    q_tnh: Float[Tensor, "t n h"], keys_qkh: Float[Tensor, "q k h"], values_qkh: Float[Tensor, "q k h"], *, causal: bool
) -> tuple[Float[Tensor, "t n h"], Float[Tensor, "t n"]]:
    """Rows over the query's keys, causally or over all of them: float32 values and log-sum-exp."""
    groups = q_tnh.shape[1] // keys_qkh.shape[1]
    q_1nth = q_tnh.to(keys_qkh.dtype).transpose(0, 1)[None]
    keys_1nqh, values_1nqh = (x.repeat_interleave(groups, dim=1).transpose(0, 1)[None] for x in (keys_qkh, values_qkh))
    kernel = _flash_cpu if q_tnh.device.type == "cpu" else _flash_cuda
    values_1nth, lse_1nt = kernel(q_1nth, keys_1nqh, values_1nqh, causal)
    return values_1nth[0].transpose(0, 1).float(), lse_1nt[0, :, : q_tnh.shape[0]].transpose(0, 1).float()


def _flash_cpu(q_1nth: Tensor, keys_1nqh: Tensor, values_1nqh: Tensor, causal: bool) -> tuple[Tensor, Tensor]:
    return torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(
        q_1nth, keys_1nqh, values_1nqh, is_causal=causal, scale=1.0
    )


def _flash_cuda(q_1nth: Tensor, keys_1nqh: Tensor, values_1nqh: Tensor, causal: bool) -> tuple[Tensor, Tensor]:
    """FlashAttention for bfloat16, the memory-efficient kernel for float32, which the former does not take."""
    if q_1nth.dtype == torch.bfloat16:
        return torch.ops.aten._scaled_dot_product_flash_attention(
            q_1nth, keys_1nqh, values_1nqh, is_causal=causal, scale=1.0
        )[:2]
    return torch.ops.aten._scaled_dot_product_efficient_attention(
        q_1nth, keys_1nqh, values_1nqh, None, True, is_causal=causal, scale=1.0
    )[:2]
