"""The best-native layout: no padding per item, windows that hold each item, steps and orders that read back."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from scorematrix import ScoreRequest
from scorematrix.models import Model
from scorematrix.models.catalogue import load_model
from scorematrix.scoring.shared_prefix import (
    PADDING,
    WINDOWS,
    lay_out,
    padded_size,
    read_out,
    shortest_item,
    split_items,
    tile_rows,
    tokens_a_step,
)
from scorematrix.workload import text_workload


def ragged(lengths: list[int], n_query: int = 9) -> ScoreRequest:
    rng = np.random.default_rng(3)
    return ScoreRequest(
        rng.integers(0, 90, n_query).tolist(), [rng.integers(0, 90, n).tolist() for n in lengths], [1, 2]
    )


def test_layout() -> None:
    request = ScoreRequest([7, 8, 9], [[1, 2], [5] * 40, [3], [4, 5, 6]], [0])
    step = lay_out(request, range(4), with_query=True)
    assert step.n_tokens == 49 and step.n_query == 3
    assert step.query_q.tolist() == [7, 8, 9, 0, 0, 0, 0, 0]
    short, long = step.blocks
    assert (short.shape.window, long.shape.window) == (32, 128)
    assert short.token_t.tolist() == [1, 2, 3, 4, 5, 6, 0, 0]
    assert short.item_t.tolist() == [0, 0, 1, 2, 2, 2, PADDING, PADDING]
    assert short.position_t[:6].tolist() == [3, 4, 3, 3, 4, 5]
    assert short.scored_s.tolist() == [1, 2, 5] + [1] * 5
    assert short.request_index.tolist() == [0, 2, 3] and long.request_index.tolist() == [1]
    assert step.request_index.tolist() == [0, 2, 3, 1] and step.scored_index.tolist() == [0, 1, 2, 8]
    assert step.shape.block_slices == [slice(8, 16), slice(16, 56)]


@pytest.mark.parametrize("buckets", [True, False])
def test_every_item_lies_within_its_window(buckets: bool) -> None:
    request = ragged([1, 31, 32, 33, 128, 129, 512, 513, 2, 40, 2049])
    step = lay_out(request, range(11), with_query=False, buckets=buckets)
    assert step.shape.n_query_tokens == 0
    for block in step.blocks:
        lengths = np.bincount(block.item_t[block.item_t >= 0])
        assert lengths.max() <= block.shape.window
        assert block.shape.window % block.shape.tile == 0
        if not buckets:  # graphs without buckets want whole tiles, and never a single one
            assert block.shape.t % block.shape.tile == 0 and block.shape.t >= 2 * block.shape.tile
            assert block.shape.s >= 2
    # One long item costs the short ones nothing: they stay in their own block.
    assert [block.shape.window for block in step.blocks] == [32, 128, 512, 2048, 8192]


@pytest.mark.parametrize(
    ("n", "size"), [(1, 8), (8, 8), (9, 16), (250, 256), (257, 264), (2000, 2016), (10_000, 10_240)]
)
def test_padded_size(n: int, size: int) -> None:
    assert padded_size(n) == size


def test_padded_sizes_are_few_and_close() -> None:
    sizes = [padded_size(n) for n in range(256, 50_000)]
    assert max((size - n) / size for n, size in zip(range(256, 50_000), sizes, strict=True)) <= 1 / 16
    assert len(set(sizes)) <= 32 * 8 and all(b >= a for a, b in itertools.pairwise(sizes))


@pytest.mark.parametrize("items_per_call", [16, None])
def test_little_of_the_shipped_data_set_is_padding(smollm2: Model, items_per_call: int | None) -> None:
    computed = needed = 0
    for request in text_workload("yes_no", smollm2.tokenizer).score_requests():
        for call in request.chunks(items_per_call or len(request.items_ids)):
            step = lay_out(call, range(len(call.items_ids)), with_query=True)
            computed += step.shape.n_tokens
            needed += step.n_tokens
    assert needed <= computed <= needed / 0.88, f"{1 - needed / computed:.1%} of the computed tokens are padding"


@pytest.mark.parametrize("budget", [1, 7, 20, 1000])
def test_steps_hold_every_item_once_and_in_order(budget: int) -> None:
    request = ragged([3, 9, 1, 1, 30, 2, 7, 7])
    runs = split_items(request, budget)
    assert [i for run in runs for i in run] == list(range(8))
    for run in runs:
        assert len(run) == 1 or sum(len(request.items_ids[i]) for i in run) <= budget


def test_scores_come_back_in_the_order_of_the_items() -> None:
    request = ragged([40, 3, 200, 5, 33])
    steps = [lay_out(request, run, with_query=i == 0) for i, run in enumerate(split_items(request, 50))]
    assert len(steps) > 1
    found = []
    for step in steps:
        marks = np.full((sum(block.shape.s for block in step.blocks), 2), np.nan, np.float32)
        marks[step.scored_index] = np.asarray(step.request_index, np.float32)[:, None]
        found.append((step, marks))
    assert read_out(request, found)[:, 0].tolist() == [0, 1, 2, 3, 4]


def test_step_tokens_follow_the_memory() -> None:
    config = load_model("random:tiny-llama").config
    small, large = tokens_a_step(config, 1 << 20), tokens_a_step(config, 1 << 30)
    assert 512 <= small < large <= 65536 and small % 512 == 0
    assert all(window % tile_rows(window) == 0 for window in WINDOWS)


@pytest.mark.parametrize("window", WINDOWS)
def test_shortest_item_of_a_length_class(window: int) -> None:
    def window_of(length: int) -> int:
        return lay_out(ScoreRequest([1], [[1] * length], [2]), range(1), with_query=False).blocks[0].shape.window

    assert window_of(shortest_item(window)) == window
    assert shortest_item(window) == 1 or window_of(shortest_item(window) - 1) < window
