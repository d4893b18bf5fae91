"""The drawn masks are the ones that score: laid beside those of both frameworks."""

from __future__ import annotations

import numpy as np
import pytest

from scorematrix.scoring.packing import pack
from scorematrix.scoring.shared_prefix import lay_out
from scorematrix.scoring.visibility import (
    LEFT_OUT,
    MASKED,
    SEES_ITEM,
    SEES_QUERY,
    computed_pairs,
    packed_visibility,
    shared_visibility,
)
from scorematrix.workload.request import ScoreRequest

REQUESTS = {
    "short items": ScoreRequest(range(5), [[1, 2], [3], [4, 5, 6]], [1]),
    "two length classes": ScoreRequest(range(7), [[1] * 3, [2] * 40, [3] * 5, [4] * 33], [1]),
    "one token each": ScoreRequest([1], [[2]], [1]),
}


@pytest.mark.parametrize("case", REQUESTS)
def test_packed_is_the_portable_views_mask(case: str) -> None:
    from scorematrix.scoring.jax.portable import attention_mask as jax_mask
    from scorematrix.scoring.pytorch.portable import attention_mask as torch_mask

    torch = pytest.importorskip("torch")
    chunk = pack(REQUESTS[case])
    found, real = packed_visibility(chunk), slice(0, chunk.n_tokens)
    for mask in (np.asarray(jax_mask(chunk.segment_t)), torch_mask(torch.from_numpy(chunk.segment_t)).numpy()):
        assert np.array_equal((found > MASKED)[real], mask[real])
    assert (found[chunk.n_tokens :] == MASKED).all() and LEFT_OUT not in found


@pytest.mark.parametrize("case", REQUESTS)
def test_shared_prefix_is_the_best_native_views_bias(case: str) -> None:
    from scorematrix.scoring.pytorch.attention import tile_bias

    torch = pytest.importorskip("torch")
    request = REQUESTS[case]
    step = lay_out(request, range(len(request.items_ids)), with_query=True, buckets=False)
    found, start = shared_visibility(step), step.shape.q
    for block in step.blocks:
        t, tile, window = block.shape.t, block.shape.tile, block.shape.window
        bias = tile_bias(torch.from_numpy(block.item_t), tile, window).numpy()
        for row in np.flatnonzero(block.item_t >= 0):
            first = row // tile * tile - window
            seen = {first + int(u) for u in np.flatnonzero(bias[row // tile, row % tile] == 0)}
            own = found[start + row, start : start + t]
            assert set(np.flatnonzero(own == SEES_ITEM).tolist()) == seen
            reached = set(range(max(first, 0), first + window + tile))
            assert set(np.flatnonzero(own > LEFT_OUT).tolist()) == reached
            assert (found[start + row, : step.n_query] == SEES_QUERY).all()
        start += t


@pytest.mark.parametrize("case", REQUESTS)
def test_both_layouts_count_the_same_pairs(case: str) -> None:
    """What an item sees is its definition: layouts differ in what they compute beside it, only."""
    request = REQUESTS[case]
    step = lay_out(request, range(len(request.items_ids)), with_query=True, buckets=False)
    packed, shared = packed_visibility(pack(request)), shared_visibility(step)
    n_query, lengths = len(request.query_ids), [len(ids) for ids in request.items_ids]
    due = n_query * (n_query + 1) // 2 + sum(n_query * n + n * (n + 1) // 2 for n in lengths)
    assert (packed > MASKED).sum() == (shared > MASKED).sum() == due
    assert computed_pairs(step) >= (shared > LEFT_OUT).sum()
