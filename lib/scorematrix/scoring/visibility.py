"""Which tokens see which in a layout, and which computed scores are discarded: pure numpy, for drawings and counts.

Letters: t attending token, u attended token, b tile of rows.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Int

from scorematrix.scoring.packing import QUERY_SEGMENT, PackedChunk
from scorematrix.scoring.shared_prefix import Block, Step

LEFT_OUT, MASKED, SEES_QUERY, SEES_ITEM = 0, 1, 2, 3
"""Never computed; computed and masked away; a score on a query token that counts; one on a token of the same item."""

Matrix = Int[np.ndarray, "t u"]


def packed_visibility(chunk: PackedChunk) -> Matrix:
    """Return the portable view's dense mask: every pair of the padded sequence is computed, few count."""
    segment_t = chunk.segment_t
    order_t = np.arange(len(segment_t))
    same_tu = segment_t[:, None] == segment_t[None, :]
    query_u = segment_t == QUERY_SEGMENT
    real_t = order_t < chunk.n_tokens  # padding sees padding, but no score uses it
    seen_tu = (order_t[:, None] >= order_t[None, :]) & (same_tu | query_u[None, :]) & real_t[:, None]
    return np.where(seen_tu, np.where(query_u[None, :], SEES_QUERY, SEES_ITEM), MASKED)


def shared_visibility(step: Step) -> Matrix:
    """Return the best-native view's mask: items attend to the query in one product, and to themselves in tiles.

    Rows and columns are the query's tokens, then those of the step's blocks, padding included. Pairs that a tile
    computes before the first token of its block have no column.
    """
    n, q = step.shape.q + sum(block.shape.t for block in step.blocks), step.shape.q
    states_tu = np.full((n, n), LEFT_OUT)
    real_q = np.arange(q) < step.n_query
    states_tu[:q, :q] = np.where(np.tril(np.ones((q, q), bool)) & real_q[:, None], SEES_QUERY, MASKED)
    start = q
    for block in step.blocks:
        rows = slice(start, start + block.shape.t)
        states_tu[rows, :q] = np.where((block.item_t >= 0)[:, None] & real_q[None, :], SEES_QUERY, MASKED)
        states_tu[rows, rows] = _own_items(block)
        start = rows.stop
    return states_tu


def computed_pairs(step: Step) -> int:
    """Count the pairs that a step computes: those in `shared_visibility`, and the tiles' reach before their block."""
    q = step.shape.q
    return q * q + sum(block.t * (q + block.tile + block.window) for block in step.shape.blocks)


def _own_items(block: Block) -> Matrix:
    t, tile, window = block.shape.t, block.shape.tile, block.shape.window
    order_t = np.arange(t)
    tile_end_t = (order_t // tile + 1) * tile
    first_t = tile_end_t - tile - window
    reached_tu = (order_t[None, :] >= first_t[:, None]) & (order_t[None, :] < tile_end_t[:, None])
    same_tu = (block.item_t[:, None] == block.item_t[None, :]) & (block.item_t >= 0)[:, None]
    seen_tu = reached_tu & same_tu & (order_t[:, None] >= order_t[None, :])
    return np.where(seen_tu, SEES_ITEM, np.where(reached_tu, MASKED, LEFT_OUT))
