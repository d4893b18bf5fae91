"""The packed layout, and that padding does not make a new program for every request."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from scorematrix import ScoreRequest, load_backend
from scorematrix.scoring.packing import bucket_size, pack


def test_layout() -> None:
    chunk = pack(ScoreRequest([7, 8, 9], [[1, 2], [3], [4, 5, 6]], [0]))
    assert chunk.n_tokens == 9 and chunk.n_items == 3
    assert chunk.token_t[:9].tolist() == [7, 8, 9, 1, 2, 3, 4, 5, 6]
    assert chunk.segment_t.tolist() == [0, 0, 0, 1, 1, 2, 3, 3, 3] + [-1] * 7
    assert chunk.position_t[:9].tolist() == [0, 1, 2, 3, 4, 3, 3, 4, 5]
    assert chunk.scored_s.tolist() == [4, 5, 8] + [4] * 5


@pytest.mark.parametrize(
    ("n", "size"), [(1, 8), (8, 8), (9, 16), (64, 64), (65, 72), (129, 144), (1000, 1024), (2001, 2048)]
)
def test_bucket_size(n: int, size: int) -> None:
    assert bucket_size(n) == size


def test_buckets_waste_little_and_are_few() -> None:
    sizes = [bucket_size(n) for n in range(64, 20_000)]
    assert max((size - n) / size for n, size in zip(range(64, 20_000), sizes, strict=True)) <= 0.125
    assert len(set(sizes)) <= 8 * 9
    assert all(b >= a for a, b in itertools.pairwise(sizes))


def test_nothing_recompiles_within_a_bucket(tiny) -> None:
    backend = load_backend("jax", model=tiny, device="cpu")
    rng = np.random.default_rng(0)
    request = ScoreRequest(range(20), [rng.integers(0, 256, 3).tolist() for _ in range(8)], [1, 2])
    backend.prepare([request])
    assert len(backend.compile_events) == 1
    for n_items in (8, 7):  # 44 and 41 tokens: both are padded to 48
        backend.score(ScoreRequest(range(20), request.items_ids[:n_items], [3, 4]))
    assert len(backend.compile_events) == 1
    backend.score(ScoreRequest(range(120), request.items_ids, [1, 2]))
    assert len(backend.compile_events) == 2, "a compile is recorded wherever it happens"
