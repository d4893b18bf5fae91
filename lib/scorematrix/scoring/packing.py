"""Lay out a query and its items as one padded sequence: pure numpy, the same for both frameworks.

Letters: t token of the packed sequence, s scored position (one an item).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Int

from scorematrix.workload.request import ScoreRequest

QUERY_SEGMENT = 0
PADDING_SEGMENT = -1


@dataclass(frozen=True)
class PackedChunk:
    """A query and a chunk of items in one sequence.

    Attributes:
        segment_t: 0 for the query, 1.. for the items, -1 for padding; a token sees its segment and the query.
        position_t: rotary position; each item's starts at the query's length.
        scored_s: index into t of each item's last token; surplus slots repeat the first item's.
        n_items: how many leading slots of `scored_s` are real.
    """

    token_t: Int[np.ndarray, " t"]
    position_t: Int[np.ndarray, " t"]
    segment_t: Int[np.ndarray, " t"]
    scored_s: Int[np.ndarray, " s"]
    n_items: int
    n_tokens: int


def bucket_size(n: int) -> int:
    """Return the padded size for n: at most 8 sizes an octave, so at most one eighth is padding above 64."""
    step = max(8, 1 << max(0, (n - 1).bit_length() - 4))
    return -(-n // step) * step


def packed_shape(request: ScoreRequest) -> tuple[int, int]:
    """Return the padded (t, s) of a request: compiled programs are keyed by it."""
    return bucket_size(request.n_tokens), bucket_size(len(request.items_ids))


def pack(request: ScoreRequest) -> PackedChunk:
    """Pack a request, padded to its bucket."""
    t, s = packed_shape(request)
    n_query = len(request.query_ids)
    n_items = len(request.items_ids)
    lengths = np.fromiter(map(len, request.items_ids), dtype=np.int32, count=n_items)
    ends = n_query + np.cumsum(lengths, dtype=np.int32)
    n_tokens = int(ends[-1])

    token_t = np.zeros(t, np.int32)
    token_t[:n_query] = request.query_ids
    token_t[n_query:n_tokens] = [token for ids in request.items_ids for token in ids]
    segment_t = np.full(t, PADDING_SEGMENT, np.int32)
    segment_t[:n_query] = QUERY_SEGMENT
    segment_t[n_query:n_tokens] = np.repeat(np.arange(1, n_items + 1, dtype=np.int32), lengths)
    position_t = np.arange(t, dtype=np.int32)
    position_t[n_query:n_tokens] -= np.repeat(ends - lengths - n_query, lengths)
    position_t[n_tokens:] = 0
    scored_s = np.full(s, ends[0] - 1, np.int32)
    scored_s[:n_items] = ends - 1
    return PackedChunk(token_t, position_t, segment_t, scored_s, n_items, n_tokens)
