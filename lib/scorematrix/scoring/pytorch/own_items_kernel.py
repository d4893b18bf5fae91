"""Item self-attention on a GPU, merged with the attention over the query: one Triton kernel, for bfloat16.

The online softmax starts from cuDNN's result: its output is the running value, its log-sum-exp the running maximum. No
separate merge is needed. It mirrors scoring/jax/own_items_kernel.py. Triton ships with PyTorch for CUDA, so only the
CUDA path imports this file.

Additional letters: r row of a tile, u key of a block.
"""

from __future__ import annotations

import triton  # pyright: ignore[reportMissingImports]  # it comes with PyTorch for CUDA
import triton.language as tl  # pyright: ignore[reportMissingImports]
from torch import Tensor

ROWS = 64


def launch(
    q_tnh: Tensor,
    k_tkh: Tensor,
    v_tkh: Tensor,
    item_t: Tensor,
    values_tnh: Tensor,
    lse_nt: Tensor,
    out_tnh: Tensor,
    window: int,
) -> None:
    """Launch the kernel; for the arguments see `attention.join_own_items`."""
    t, n, h = q_tnh.shape
    tensors = (q_tnh, k_tkh, v_tkh, values_tnh, out_tnh)
    assert all(x.stride(2) == 1 for x in tensors) and h == triton.next_power_of_2(h)
    strides = [stride for x in tensors for stride in x.stride()[:2]]
    _kernel[(triton.cdiv(t, ROWS), n)](  # pyright: ignore[reportIndexIssue]  # triton.jit makes it so
        q_tnh, k_tkh, v_tkh, item_t, values_tnh, lse_nt, out_tnh,
        t, n // k_tkh.shape[1], *strides, *lse_nt.stride(),
        WINDOW=window, H=h, ROWS=ROWS, KEYS=min(window, ROWS),
        num_warps=4, num_stages=2,
    )  # fmt: skip


@triton.jit
def _kernel(
    q_ptr, keys_ptr, values_ptr, item_ptr, query_values_ptr, query_lse_ptr, out_ptr,
    t, group,
    q_t, q_n, keys_t, keys_k, values_t, values_k, query_values_t, query_values_n, out_t, out_n, lse_n, lse_t,
    WINDOW: tl.constexpr, H: tl.constexpr, ROWS: tl.constexpr, KEYS: tl.constexpr,
):  # fmt: skip
    """Process one head's tile of rows with the keys that the rows' items can reach."""
    start, head = tl.program_id(0) * ROWS, tl.program_id(1)
    key_head = head // group
    row_r, column_h = start + tl.arange(0, ROWS), tl.arange(0, H)
    real_r = row_r < t
    item_r = tl.load(item_ptr + row_r, mask=real_r, other=-1)
    q_rh = tl.load(q_ptr + row_r[:, None] * q_t + head * q_n + column_h, mask=real_r[:, None], other=0.0)
    values_at_rh = row_r[:, None] * query_values_t + head * query_values_n + column_h
    values_rh = tl.load(query_values_ptr + values_at_rh, mask=real_r[:, None], other=0.0).to(tl.float32)
    top_r = tl.load(query_lse_ptr + head * lse_n + row_r * lse_t, mask=real_r, other=0.0)
    sum_r = tl.full([ROWS], 1.0, tl.float32)
    first = tl.maximum(start - WINDOW, 0) // KEYS
    for block in range(first, (start + ROWS) // KEYS):
        key_u = block * KEYS + tl.arange(0, KEYS)
        real_u = key_u < t
        keys_uh = tl.load(
            keys_ptr + key_u[:, None] * keys_t + key_head * keys_k + column_h, mask=real_u[:, None], other=0.0
        )
        block_values_uh = tl.load(
            values_ptr + key_u[:, None] * values_t + key_head * values_k + column_h, mask=real_u[:, None], other=0.0
        )
        item_u = tl.load(item_ptr + key_u, mask=real_u, other=-2)
        scores_ru = tl.dot(q_rh, tl.trans(keys_uh))
        seen_ru = (item_r[:, None] == item_u[None, :]) & (key_u[None, :] <= row_r[:, None])
        scores_ru = tl.where(seen_ru, scores_ru, float("-inf"))
        higher_r = tl.maximum(top_r, tl.max(scores_ru, 1))  # never -inf: every row sees keys of the query
        weights_ru, kept_r = tl.exp(scores_ru - higher_r[:, None]), tl.exp(top_r - higher_r)
        joined_rh = tl.dot(weights_ru.to(block_values_uh.dtype), block_values_uh)
        values_rh = kept_r[:, None] * values_rh + joined_rh
        sum_r = kept_r * sum_r + tl.sum(weights_ru, 1)
        top_r = higher_r
    out_at_rh = row_r[:, None] * out_t + head * out_n + column_h
    tl.store(out_ptr + out_at_rh, (values_rh / sum_r[:, None]).to(out_ptr.dtype.element_ty), mask=real_r[:, None])
