"""The ratio of a pair: from neighbouring turns where there are any, clean ones where there are enough."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pytest

from scorematrix.compare.pairs import pair_ratios
from scorematrix.matrix import plan_rounds
from scorematrix.results import Cell, Round
from scorematrix.results.cells import Turn
from tests.factory import changed, make_cell, make_params, make_round, make_workload

PARAMS = make_params()
PLANNED = {p.backend: p for p in plan_rounds(PARAMS) if (p.role, p.index, p.target) == ("confirm", 1, "cpu")}


def in_turns(backend: str, seconds: np.ndarray, disturbed: Sequence[tuple[int, int]] = (), **changes: object) -> Round:
    """A round of a group; seconds [lap, request]."""
    call_ns = [[[int(s * 1e9)] for s in lap] for lap in seconds]
    turns = [
        Turn(pass_index=i, request=q, lap=i, place=0, disturbed=(i, q) in disturbed)
        for i in range(seconds.shape[0])
        for q in range(seconds.shape[1])
    ]
    cell = make_cell(1.0, 8, call_ns=call_ns, turns=turns)
    return make_round(PLANNED[backend], PARAMS, make_workload(), [cell], **({"group": "g"} | changes))


def ratio(first: Round, second: Round):
    return pair_ratios([first], 8, [second], 8)[1]


NOISE = np.exp(np.random.default_rng(1).normal(0, 0.5, (21, 2)))
"""The machine's own: alike for both."""


def test_noise_that_both_meet_drops_out() -> None:
    found = ratio(in_turns("jax", 1.2 * NOISE), in_turns("pytorch", NOISE))
    assert found.ratio == pytest.approx(1.2, rel=1e-6) and found.n_turns == 42
    assert found.error_log < 1e-6


def test_rounds_of_different_groups_are_compared_by_their_medians() -> None:
    shuffled = NOISE[np.random.default_rng(2).permutation(21)]
    first = in_turns("jax", 1.2 * NOISE)
    for other in (in_turns("pytorch", shuffled, group="h"), in_turns("pytorch", shuffled, group=None)):
        found = ratio(first, other)
        assert found.n_turns == 0 and found.ratio == pytest.approx(1.2, rel=1e-6), "the same passes, in another order"
        assert math.isnan(found.error_log)


def test_requests_count_by_their_time() -> None:
    """The first request takes nine times as long and is the only one at which the sides differ."""
    under = np.tile([9.0, 1.0], (5, 1))
    found = ratio(in_turns("jax", under * [1.5, 1.0]), in_turns("pytorch", under))
    assert found.ratio == pytest.approx((9 * 1.5 + 1) / 10)


def test_one_wild_turn_moves_nothing() -> None:
    over = 1.1 * NOISE
    over[3, 1] *= 50
    assert ratio(in_turns("jax", over), in_turns("pytorch", NOISE)).ratio == pytest.approx(1.1, rel=1e-6)


def test_disturbed_turns_are_left_out_where_enough_are_clean() -> None:
    seconds = np.ones((9, 1))
    disturbed = [(i, 0) for i in range(4)]
    over = seconds.copy()
    over[:4] = 3.0
    found = ratio(in_turns("jax", over, disturbed), in_turns("pytorch", seconds))
    assert (found.only_clean, found.n_disturbed, found.ratio) == (True, 4, 1.0)
    assert found.ratio_all > 1.2, "four wild ones of nine are too many for any estimate"
    all_but_one = ratio(in_turns("jax", over, [(i, 0) for i in range(8)]), in_turns("pytorch", seconds))
    assert (all_but_one.only_clean, all_but_one.n_disturbed) == (False, 8)


def test_a_turn_that_was_made_again_counts_once() -> None:
    first = in_turns("jax", 1.2 * NOISE)
    cell: Cell = first.cells[0]
    replaced = cell.turns[0].model_copy(update={"replaced_ns": [10**12], "disturbed": True})
    again = changed(first, cells=[cell.model_copy(update={"turns": [replaced, *cell.turns]})])
    assert ratio(again, in_turns("pytorch", NOISE)) == ratio(first, in_turns("pytorch", NOISE))


def test_failed_cells_and_compiles_make_no_pair() -> None:
    other = in_turns("pytorch", NOISE)
    for changes in ({"status": "failed", "error": "boom"}, {"compiles_in_window": 1}):
        first = in_turns("jax", NOISE)
        bad = changed(first, cells=[first.cells[0].model_copy(update=changes)])
        assert pair_ratios([bad], 8, [other], 8) == {}


@pytest.mark.parametrize("scatter", [0.02, 0.2])
def test_the_error_within_a_pair_is_the_scatter_between_such_pairs(scatter: float) -> None:
    rng = np.random.default_rng(7)
    found = [
        ratio(in_turns("jax", np.exp(rng.normal(0, scatter, (15, 1)))), in_turns("pytorch", np.ones((15, 1))))
        for _ in range(300)
    ]
    assert np.std([math.log(f.ratio) for f in found]) == pytest.approx(np.mean([f.error_log for f in found]), rel=0.15)
