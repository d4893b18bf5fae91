"""An item's score is its own: order, neighbours and their lengths do not move it (rule 35)."""

from __future__ import annotations

import numpy as np
import pytest

from scorematrix import ScoreRequest
from scorematrix.compare.numerics import identical_items
from scorematrix.models import Model

ROUNDING = 2e-6
rng = np.random.default_rng(8)
QUERY = rng.integers(0, 256, 20).tolist()
ITEMS = [rng.integers(0, 256, n).tolist() for n in (4, 1, 9, 4, 6, 4)]
LABELS = [5, 90]

# name: (the items sent instead, index of the original item at each index that is compared)
CHANGES = {
    "permuted": (ITEMS[::-1], {5 - i: i for i in range(6)}),
    "neighbour's content": ([*ITEMS[:2], [7] * 9, *ITEMS[3:]], {i: i for i in (0, 1, 3, 4, 5)}),
    "neighbour longer": ([*ITEMS[:2], ITEMS[2] * 4, *ITEMS[3:]], {i: i for i in (0, 1, 3, 4, 5)}),
    "neighbour shorter": ([*ITEMS[:2], ITEMS[2][:1], *ITEMS[3:]], {i: i for i in (0, 1, 3, 4, 5)}),
    "neighbours added": ([[3, 3], *ITEMS, *[[9, i] for i in range(12)]], {i + 1: i for i in range(6)}),
    "alone": (ITEMS[3:4], {0: 3}),
}


@pytest.mark.parametrize("change", CHANGES)
def test_neighbours_do_not_matter(engine: tuple[str, str], load, change: str, tiny: Model) -> None:
    backend = load(engine, tiny)
    before = backend.score(ScoreRequest(QUERY, ITEMS, LABELS))
    items, same = CHANGES[change]
    after = backend.score(ScoreRequest(QUERY, items, LABELS))
    for now, then in same.items():
        assert np.abs(after[now] - before[then]).max() <= ROUNDING


def test_distinct_items_have_distinct_scores(engine: tuple[str, str], load, tiny: Model) -> None:
    backend = load(engine, tiny)
    scores = backend.score(ScoreRequest(QUERY, ITEMS, LABELS))
    assert identical_items([scores], [ITEMS]) == []


def test_query_matters_and_repeats_are_equal(engine: tuple[str, str], load, tiny: Model) -> None:
    backend = load(engine, tiny)
    first = backend.score(ScoreRequest(QUERY, ITEMS, LABELS))
    other = backend.score(ScoreRequest(QUERY[::-1], ITEMS, LABELS))
    again = backend.score(ScoreRequest(QUERY, ITEMS, LABELS))
    assert np.abs(first - other).max() > 1e-4
    assert np.abs(first - again).max() <= ROUNDING
