"""The plan is pure, seeded, and randomised within each pair."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from scorematrix.matrix import chunk_order, load_params, needed_targets, plan_rounds
from tests.factory import make_params

QUICK = Path(__file__).parents[2] / "params" / "quick.yaml"


def test_same_seed_same_plan() -> None:
    assert plan_rounds(make_params(seed=1)) == plan_rounds(make_params(seed=1))
    assert plan_rounds(make_params(seed=1)) != plan_rounds(make_params(seed=2))


def test_pairs_run_back_to_back() -> None:
    plan = [p for p in plan_rounds(make_params(rounds=9)) if p.target == "cpu" and p.role != "reference"]
    for first, second in zip(plan[::2], plan[1::2]):
        assert first.index == second.index and {first.backend, second.backend} == {"jax", "pytorch"}
        assert second.position == first.position + 1


def test_who_goes_first_is_fair() -> None:
    """Over many seeds each side goes first in half of the pairs."""
    firsts: Counter[str] = Counter()
    for seed in range(60):
        cpu = [p for p in plan_rounds(make_params(seed=seed, rounds=9)) if p.target == "cpu" and p.role != "reference"]
        firsts.update(p.backend for p in cpu[::2])
    assert 0.42 <= firsts["jax"] / firsts.total() <= 0.58


def test_names_are_unique_and_reference_comes_first() -> None:
    plan = plan_rounds(load_params(QUICK))
    assert len({p.name for p in plan}) == len(plan)
    assert [p.position for p in plan] == list(range(len(plan)))
    assert (plan[0].role, plan[0].backend, plan[0].view) == ("reference", "transformers", "per_item")


def test_quick_is_the_job_that_was_promised() -> None:
    params = load_params(QUICK)
    assert params.rounds >= 5 and len(params.chunk_sizes) >= 3 and params.model == "smollm2-135m"
    assert {choice.backend for choice in params.backends} >= {"jax", "pytorch"}
    assert {target for target, _, _ in needed_targets(params)} == {"cpu", "tpu-v6e-1", "gpu-g4"}


def test_chunk_order_varies_by_round_but_not_by_side() -> None:
    params = make_params(chunk_sizes=[1, 2, 4, 8])
    by_side = {name: [p for p in plan_rounds(params) if p.backend == name] for name in ("jax", "pytorch")}
    orders = [tuple(chunk_order(params, planned)) for planned in by_side["jax"]]
    assert len(set(orders)) > 2 and all(sorted(order) == [1, 2, 4, 8] for order in orders)
    assert orders == [tuple(chunk_order(params, planned)) for planned in by_side["pytorch"]]


def test_a_view_may_have_chunk_sizes_of_its_own() -> None:
    backends = [{"backend": "jax", "chunk_sizes": {"portable": [2, 3]}}, {"backend": "pytorch"}]
    params = make_params(chunk_sizes=[1, 8], backends=backends, rounds=8)
    orders = {
        name: {tuple(sorted(chunk_order(params, p))) for p in plan_rounds(params) if p.backend == name}
        for name in ("jax", "pytorch")
    }
    assert orders == {"jax": {(2, 3)}, "pytorch": {(1, 8)}}
