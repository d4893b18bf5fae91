"""Who measures when: blocks, orders and when enough is known, all of it pure."""

from __future__ import annotations

import itertools
import math
from collections import Counter

import numpy as np
import pytest

from scorematrix.compare.pairs import central
from scorematrix.matrix.plan import plan_groups
from scorematrix.matrix.turns import (
    FEWEST_RATIOS,
    Block,
    error_bound,
    plan_blocks,
    score_of,
    slots,
    standard_error,
    widest_error,
)
from scorematrix.results import PlannedRound
from tests.factory import make_params, make_workload


def planned(backend: str, role: str = "confirm") -> PlannedRound:
    return PlannedRound(index=1, role=role, backend=backend, view="v", target="cpu", position=0)


JAX, TORCH, CONTROL, PEER = planned("jax"), planned("pytorch"), planned("jax", "control"), planned("transformers")
SIZES = {JAX.name: [2, 8], TORCH.name: [2, 8], CONTROL.name: [8], PEER.name: [8]}


def test_with_nothing_chosen_all_sizes_are_of_one_block() -> None:
    (block,) = plan_blocks([JAX, TORCH], SIZES, {})
    assert block.goes_on and set(block.cells) == {(p.name, size, 1.0) for p in (JAX, TORCH) for size in (2, 8)}


def test_chosen_cells_go_on_beside_their_controls_and_others_do_not() -> None:
    chosen = {JAX.name: 8, TORCH.name: 2, CONTROL.name: 8}
    blocks = plan_blocks([JAX, TORCH, CONTROL], SIZES, chosen)
    assert [block.goes_on for block in blocks] == [False, False, True]
    assert [{size for _, size, _ in block.cells} for block in blocks[:2]] == [{8}, {2}], "matched sizes of both sides"
    assert set(blocks[-1].cells) == {
        (JAX.name, 8, 1.0), (TORCH.name, 2, 1.0), (CONTROL.name, 8, 1.0), (CONTROL.name, 8, 1.05)
    }  # fmt: skip


def test_compared_cells_stand_beside_each_other() -> None:
    """Noise lives on the scale of a turn: at twice the distance it drops out of a ratio less well."""
    block = plan_blocks([JAX, TORCH, CONTROL], SIZES, {JAX.name: 8, TORCH.name: 8, CONTROL.name: 8})[-1]
    jax, torch, itself = (JAX.name, 8, 1.0), (TORCH.name, 8, 1.0), (CONTROL.name, 8, 1.0)
    gaps = Counter[tuple[int, int]]()
    orders = set()
    for slot in itertools.islice(slots(block, 1, 0, np.random.default_rng(2)), 400):
        place = {cell: i for i, cell in enumerate(slot.cells)}
        gaps[abs(place[jax] - place[torch]), abs(place[jax] - place[itself])] += 1
        orders.add(slot.cells)
    assert gaps[1, 1] > 380 and len(orders) >= 4, "drawn among the nearest"


def test_a_size_that_both_chose_is_measured_once() -> None:
    chosen = {JAX.name: 8, TORCH.name: 8}
    assert [{size for _, size, _ in b.cells} for b in plan_blocks([JAX, TORCH], SIZES, chosen)] == [{2}, {8}]


def test_baselines_stand_beside_the_sides_for_the_fewest_laps() -> None:
    chosen = {JAX.name: 8, TORCH.name: 8, PEER.name: 8}
    blocks = plan_blocks([JAX, TORCH, PEER], SIZES, chosen, frozenset({PEER.name}))
    with_peer = [block for block in blocks if (PEER.name, 8, 1.0) in block.cells]
    assert [block.goes_on for block in with_peer] == [False] and (JAX.name, 8, 1.0) in with_peer[0].cells


def test_every_cell_goes_before_every_other_equally_often() -> None:
    block = Block(tuple((name, 8, 1.0) for name in "abcd"))
    first: Counter[tuple[str, str]] = Counter()
    for slot in itertools.islice(slots(block, 3, 5, np.random.default_rng(1)), 40):
        names = [name for name, _, _ in slot.cells]
        assert sorted(names) == list("abcd") and slot.lap >= 5
        first.update(itertools.combinations(names, 2))
    assert len({first[pair] for pair in itertools.permutations("abcd", 2)}) == 1


def test_same_seed_same_orders() -> None:
    block = Block(tuple((name, 8, 1.0) for name in "abcd"))
    drawn = [list(itertools.islice(slots(block, 1, 0, np.random.default_rng(s)), 20)) for s in (1, 1, 2)]
    assert drawn[0] == drawn[1] != drawn[2]


@pytest.mark.parametrize("n", [20, 40])
def test_the_standard_error_is_that_of_the_estimate(n: int) -> None:
    draws = np.random.default_rng(3).normal(0, 0.05, (4000, n))
    found = np.median([standard_error(own.tolist()) for own in draws])
    assert found == pytest.approx(np.std([central(own) for own in draws]), rel=0.15)


@pytest.mark.parametrize("sigma", [0.06, 0.1])
def test_a_few_laps_that_agree_by_chance_do_not_end_the_turns(sigma: float) -> None:
    """A group ended after two laps of a noisy round, because each further lap is another chance to agree."""
    precise = math.log(1.02) / 4
    draws = np.random.default_rng(3).normal(0, sigma, (300, 40))
    early = [any(error_bound(own[:n].tolist()) <= precise for n in range(2, 21)) for own in draws]
    assert np.mean(early) <= 0.01


@pytest.mark.parametrize("n", [FEWEST_RATIOS, 25])
def test_the_bound_lies_above_the_error(n: int) -> None:
    draws = np.random.default_rng(3).normal(0, 0.05, (2000, n))
    true = np.std([central(own) for own in draws])
    assert np.mean([error_bound(own.tolist()) >= true for own in draws]) > 0.87
    assert np.mean([standard_error(own.tolist()) >= true for own in draws]) < 0.6, "the estimate alone is not enough"


def test_one_disturbed_turn_does_not_move_it_and_few_turns_tell_nothing() -> None:
    logs = np.random.default_rng(3).normal(0, 0.05, 20).tolist()
    assert standard_error([*logs, 3.0]) < 1.3 * standard_error(logs)
    assert error_bound([0.1] * (FEWEST_RATIOS - 1)) == math.inf


def test_the_widest_ratio_counts_and_its_size_does_not() -> None:
    laps = np.exp(np.random.default_rng(4).normal(0, 0.05, (3, 12)))
    cells = dict(zip([("a", 8, 1.0), ("b", 8, 1.0), ("c", 8, 1.0)], laps, strict=True))
    slower = cells | {("b", 8, 1.0): cells["b", 8, 1.0] * 7}
    assert widest_error(cells) == pytest.approx(widest_error(slower))
    common = {cell: seconds * laps[0] for cell, seconds in cells.items()}
    assert widest_error(common) == pytest.approx(widest_error(cells)), "what slows all alike drops out"


def test_the_params_say_when_enough_is_known() -> None:
    group = plan_groups(make_params())[1]
    score = score_of(make_params(margin=0.04, passes=3), make_workload(), group, seconds=9.0)
    assert (score.fewest_laps, score.seconds, score.n_requests) == (3, 9.0, 2)
    assert score.precise == pytest.approx(math.log(1.04) / 4)
    assert score_of(make_params(precise_to=0.002), make_workload(), group).precise == 0.002
