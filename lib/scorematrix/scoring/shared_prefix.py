"""Lay out a query and ragged items for one device step of the best-native view: pure numpy, for both frameworks.

The query's tokens come first, then the items' tokens end to end: no item is padded. Items are grouped by length into
blocks. No item of a block is longer than `window`, so a token's item lies within the `window` tokens up to it. The keys
that attention reads therefore do not grow with the longest item of other blocks.

Letters: q query token, t item token of a block, s scored position of a block (one an item).
"""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

from scorematrix.models.config import DecoderConfig
from scorematrix.scoring.contract import Scores
from scorematrix.workload.request import ScoreRequest

WINDOWS = (32, 128, 512, 2048, 8192, 32768, 131072)
PADDING = -1
CPU_STEP_BYTES = 1 << 29
"""Working memory of a step on a CPU."""


@dataclass(frozen=True)
class BlockShape:
    """Padded sizes of a block: t item tokens, s items, none longer than `window`; attention runs by tiles of `tile`."""

    t: int
    s: int
    window: int

    @property
    def tile(self) -> int:
        """Rows whose own-item attention is computed together, each against tile + window keys."""
        return tile_rows(self.window)


@dataclass(frozen=True)
class StepShape:
    """Padded sizes of a step: compiled programs are keyed by them."""

    q: int
    blocks: tuple[BlockShape, ...]
    with_query: bool
    """Whether the step computes the query; else its keys and values are given."""

    @property
    def n_tokens(self) -> int:
        """Tokens computed, padding included."""
        return self.n_query_tokens + sum(block.t for block in self.blocks)

    @property
    def n_query_tokens(self) -> int:
        """Query tokens computed, padding included."""
        return self.q if self.with_query else 0

    @property
    def block_slices(self) -> list[slice]:
        """Position of each block's tokens among the tokens computed."""
        ends = list(itertools.accumulate((block.t for block in self.blocks), initial=self.n_query_tokens))
        return [slice(start, end) for start, end in itertools.pairwise(ends)]


class ProgramKey(NamedTuple):
    """What the program of a step depends on."""

    shape: StepShape
    n_labels: int
    apply_softmax: bool
    keeps_prefix: bool


@dataclass(frozen=True)
class Block:
    """Items of one length class, end to end.

    Attributes:
        item_t: which item of the block a token belongs to, -1 for padding.
        position_t: rotary position; each item's starts at the query's length.
        scored_s: index into t of each item's last token; surplus slots repeat the first item's.
        request_index: which item of the request each of the leading slots of `scored_s` is.
    """

    shape: BlockShape
    token_t: Int[np.ndarray, " t"]
    position_t: Int[np.ndarray, " t"]
    item_t: Int[np.ndarray, " t"]
    scored_s: Int[np.ndarray, " s"]
    request_index: Int[np.ndarray, " n_items"]


@dataclass(frozen=True)
class Step:
    """One device step: the query, unless its keys are given, and some items.

    Attributes:
        query_q: the query's tokens, padded; read only where the step computes the query.
        n_query: how many of them are real.
        n_tokens: tokens computed, padding not included.
    """

    shape: StepShape
    query_q: Int[np.ndarray, " q"]
    n_query: int
    blocks: tuple[Block, ...]
    n_tokens: int

    @property
    def request_index(self) -> Int[np.ndarray, " n_items"]:
        """Index in the request of each scored item, block after block."""
        return np.concatenate([block.request_index for block in self.blocks])

    @property
    def scored_index(self) -> Int[np.ndarray, " n_items"]:
        """Index of each scored item among the scored positions of all blocks, surplus slots left out."""
        # One more than blocks: the last is the end.
        starts = itertools.accumulate((block.shape.s for block in self.blocks), initial=0)
        return np.concatenate(
            [start + np.arange(len(b.request_index)) for start, b in zip(starts, self.blocks, strict=False)]
        )


def shortest_item(window: int) -> int:
    """Return the tokens of the shortest item in the length class of a window."""
    return max((shorter for shorter in WINDOWS if shorter < window), default=0) + 1


def shortened(request: ScoreRequest) -> ScoreRequest:
    """Return the shortest request with the same graphs: a few tiles of items of each length class, a short query."""
    items: list[tuple[int, ...]] = []
    for block in lay_out(request, range(len(request.items_ids)), with_query=False).blocks:
        length = shortest_item(block.shape.window)
        items += [(0,) * length] * -(-4 * block.shape.tile // length)
    return ScoreRequest((0,) * 64, tuple(items), request.label_ids, request.apply_softmax)


def tile_rows(window: int) -> int:
    """Return the rows of a tile: few enough that most of the tile + window keys belong to the items of these rows."""
    return min(max(window // 2, 16), 128)


def padded_size(n: int) -> int:
    """Return the padded size for n: a multiple of 8, and above 256 one of at most 32 sizes an octave."""
    step = max(8, 1 << max(0, (n - 1).bit_length() - 6))
    return -(-n // step) * step


def split_items(request: ScoreRequest, tokens_a_step: int) -> list[range]:
    """Split the items, in order, into runs of at most so many tokens; a longer item gets a separate run."""
    runs, start, n_tokens = [], 0, 0
    for index, ids in enumerate(request.items_ids):
        if index > start and n_tokens + len(ids) > tokens_a_step:
            runs.append(range(start, index))
            start, n_tokens = index, 0
        n_tokens += len(ids)
    return [*runs, range(start, len(request.items_ids))]


def keyed_steps(
    request: ScoreRequest,
    step_tokens: int,
    *,
    query_known: bool = False,
    keeps_query: bool = False,
    buckets: bool = True,
) -> list[tuple[Step, ProgramKey]]:
    """Split a request into steps of at most so many item tokens, each with the key of its program.

    The first step computes the query, unless it is known; later steps need its keys and values.

    Args:
        keeps_query: whether the query's keys and values are needed after the request.
    """
    runs = split_items(request, step_tokens)
    steps = [
        lay_out(request, run, with_query=i == 0 and not query_known, buckets=buckets) for i, run in enumerate(runs)
    ]
    wanted, n_labels = len(steps) > 1 or keeps_query, len(request.label_ids)
    return [(s, ProgramKey(s.shape, n_labels, request.apply_softmax, s.shape.with_query and wanted)) for s in steps]


def lay_out_replica_steps(
    request: ScoreRequest, step_tokens: int, n_replicas: int, *, query_known: bool
) -> list[list[Step]]:
    """Split a request into steps of parallel replicas, each of at most so many item tokens: one list per step."""
    runs = split_items(request, step_tokens * n_replicas)
    return [
        lay_out_replicas(request, run, n_replicas, with_query=i == 0 and not query_known) for i, run in enumerate(runs)
    ]


def lay_out(request: ScoreRequest, items: Sequence[int], *, with_query: bool, buckets: bool = True) -> Step:
    """Lay out some items of a request, after the query or alone.

    Args:
        buckets: pad to one of few sizes, for programs that are compiled per shape; else to full tiles only.
    """
    return lay_out_replicas(request, items, 1, with_query=with_query, buckets=buckets)[0]


def lay_out_replicas(
    request: ScoreRequest, items: Sequence[int], n_replicas: int, *, with_query: bool, buckets: bool = True
) -> list[Step]:
    """Return one step per replica of the model, all of one shape, each with the query and a share of the items.

    Shares are even in every length class. If there are fewer items than replicas, a replica's block is all padding.
    """
    n_query = len(request.query_ids)
    classes = np.searchsorted(WINDOWS, [len(request.items_ids[index]) for index in items])
    dealt = [
        _blocks(request, WINDOWS[c], np.asarray(items)[classes == c].tolist(), n_replicas, buckets)
        for c in np.unique(classes).tolist()
    ]
    query_q = np.zeros(padded_size(n_query) if buckets else n_query, np.int32)
    query_q[:n_query] = request.query_ids
    steps = []
    for blocks in zip(*dealt, strict=True):
        shape = StepShape(len(query_q), tuple(block.shape for block in blocks), with_query)
        n_tokens = sum(int(np.count_nonzero(block.item_t != PADDING)) for block in blocks)
        steps.append(Step(shape, query_q, n_query, blocks, n_tokens + (n_query if with_query else 0)))
    return steps


def deal_items(request: ScoreRequest, items: Sequence[int], n_replicas: int) -> list[list[int]]:
    """Deal items to replicas, the longest first, each to the replica with fewest tokens; a replica's stay in order."""
    if n_replicas == 1:
        return [list(items)]
    hands: list[list[int]] = [[] for _ in range(n_replicas)]
    loads = [(0, replica) for replica in range(n_replicas)]
    for index in sorted(items, key=lambda i: -len(request.items_ids[i])):
        tokens, replica = heapq.heappop(loads)
        hands[replica].append(index)
        heapq.heappush(loads, (tokens + len(request.items_ids[index]), replica))
    return [sorted(hand) for hand in hands]


def tokens_a_step(config: DecoderConfig, budget_bytes: int) -> int:
    """Return the item tokens that a step may compute within a budget of working memory, a multiple of 512.

    At most 65,536: more tokens gain nothing.
    """
    return int(np.clip(budget_bytes / (4 * token_values(config)), 512, 65536)) // 512 * 512


def token_values(config: DecoderConfig) -> int:
    """Return the float32 values of one token at its peak, the feed-forward part: gate, up and their product, plus
    the residual stream, queries, keys and values."""
    return 3 * config.ffn_size + 4 * config.hidden_size + 3 * (config.n_heads + config.n_kv_heads) * config.head_dim


def read_out(request: ScoreRequest, steps: Sequence[tuple[Step, Float[np.ndarray, "s c"]]]) -> Scores:
    """Return the probabilities of all steps in the order of the request's items."""
    scores = np.empty((len(request.items_ids), len(request.label_ids)), np.float32)
    for step, probabilities_sc in steps:
        scores[step.request_index] = probabilities_sc[step.scored_index]
    return scores


def _blocks(request: ScoreRequest, window: int, items: list[int], n_replicas: int, buckets: bool) -> tuple[Block, ...]:
    """Return the block of a length class for every replica, all of one shape."""
    hands = deal_items(request, items, n_replicas)
    lengths = [np.array([len(request.items_ids[i]) for i in hand], np.int32) for hand in hands]
    n, n_items = max(int(each.sum()) for each in lengths), max(map(len, hands))
    # Without buckets, full tiles and at least two of each: compiled graphs specialize on a length of 1.
    t = padded_size(n) if buckets else max(2, -(-n // tile_rows(window))) * tile_rows(window)
    s = padded_size(n_items) if buckets else max(2, n_items)
    shape = BlockShape(t, s, window)
    return tuple(_block(request, shape, hand, each) for hand, each in zip(hands, lengths, strict=True))


def _block(request: ScoreRequest, shape: BlockShape, items: list[int], lengths: Int[np.ndarray, " n_items"]) -> Block:
    ends = np.cumsum(lengths, dtype=np.int32)
    n = int(ends[-1]) if items else 0
    token_t = np.zeros(shape.t, np.int32)
    token_t[:n] = np.fromiter(itertools.chain.from_iterable(request.items_ids[i] for i in items), np.int32, n)
    item_t = np.full(shape.t, PADDING, np.int32)
    item_t[:n] = np.repeat(np.arange(len(items), dtype=np.int32), lengths)
    position_t = np.zeros(shape.t, np.int32)
    position_t[:n] = len(request.query_ids) + np.arange(n) - np.repeat(ends - lengths, lengths)
    scored_s = np.full(shape.s, ends[0] - 1 if items else 0, np.int32)
    scored_s[: len(items)] = ends - 1
    return Block(shape, token_t, position_t, item_t, scored_s, np.array(items, np.int64))
