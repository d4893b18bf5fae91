"""Verdicts fall at counts of rounds that are fixed beforehand, and looking more often does not make winners."""

from __future__ import annotations

import math

import numpy as np
import pytest

from scorematrix.compare import compare_run
from scorematrix.compare.sequential import look_schedule
from scorematrix.compare.statistics import Interval, geometric_interval, rounds_to_decide
from tests.factory import equal_seconds, make_params, make_run

ONE = {"comparisons": [{"jax": "cpu", "pytorch": "cpu"}]}


@pytest.mark.parametrize(
    ("rounds", "most", "counts", "confidence"),
    [
        (5, None, (5,), 0.95),
        (5, 20, (5, 10, 20), 1 - 0.05 / 3),
        (5, 12, (5, 10, 12), 1 - 0.05 / 3),
        (6, 7, (6, 7), 0.975),
    ],
)
def test_schedule(rounds: int, most: int | None, counts: tuple, confidence: float) -> None:
    looks = look_schedule({"rounds": rounds, "max_rounds": most, "tuning_rounds": 2})
    assert looks.counts == counts and looks.confidence == pytest.approx(confidence)
    assert list(looks.indices(3)) == [2, 3, 4]


def scattered(effect: float, sd: float):
    """JAX slower by `effect`, rounds scattered by `sd`, evenly so that the mean is exact over pairs of rounds."""
    return lambda b, i, c: equal_seconds(b, i, c) * (effect * math.exp(sd * (-1) ** i) if b == "jax" else 1.0)


def verdict_at(n: int, seconds, **changes):
    params = make_params(**ONE, rounds=5, max_rounds=20, **changes)
    comparison = compare_run(*make_run(params, seconds=seconds, keep=lambda p: p.index <= n))
    return comparison.contrasts[0], comparison


def test_no_verdict_between_looks() -> None:
    """At seven rounds the interval would already be narrow enough; the next look is at ten."""
    contrast, comparison = verdict_at(7, scattered(1.08, 0.03))
    assert contrast.verdict == "not_enough_evidence" and contrast.more_rounds == 3
    assert comparison.partial and not comparison.settled
    contrast, comparison = verdict_at(10, scattered(1.08, 0.03))
    assert contrast.verdict == "pytorch" and contrast.n_rounds == 10 and comparison.settled


def test_what_a_look_settled_stays() -> None:
    """Decided at five; the rounds that came later say otherwise and are not asked."""

    def seconds(b, i, c):
        return equal_seconds(b, i, c) * (1.2 if b == "jax" and i <= 5 else 1.0)

    contrast, comparison = verdict_at(20, seconds)
    assert contrast.verdict == "pytorch" and contrast.n_rounds == 5 and contrast.effect.n_rounds == 5
    assert comparison.rounds_planned < 30 and comparison.looks == [5, 10, 20]


def test_looks_share_the_level() -> None:
    once = compare_run(*make_run(make_params(**ONE), seconds=scattered(1.2, 0.02))).contrasts[0]
    often, _ = verdict_at(5, scattered(1.2, 0.02))
    assert often.effect.low < once.effect.low and often.effect.high > once.effect.high


def test_fixed_runs_are_judged_when_whole() -> None:
    params = make_params(**ONE, rounds=8)
    early = compare_run(*make_run(params, seconds=scattered(2.0, 0.0), keep=lambda p: p.index <= 6))
    assert early.contrasts[0].verdict == "not_enough_evidence" and early.contrasts[0].more_rounds == 2
    assert compare_run(*make_run(params, seconds=scattered(2.0, 0.0))).contrasts[0].verdict == "pytorch"


def test_max_rounds_must_be_more() -> None:
    with pytest.raises(ValueError, match="max_rounds=5 .*rounds=5"):
        make_params(max_rounds=5)


@pytest.mark.parametrize(("effect", "sd"), [(1.05, 0.01), (1.05, 0.02), (1.10, 0.04), (1.0, 0.02)])
def test_the_rounds_that_are_asked_for_decide_nine_times_in_ten(effect: float, sd: float) -> None:
    margin = 0.03
    n = rounds_to_decide(Interval(effect, 0, 0, 5, sd), margin)
    rng = np.random.default_rng(5)
    decided = 0
    for _ in range(600):
        found = geometric_interval(np.exp(rng.normal(math.log(effect), sd, n)).tolist())
        inside = 1 / (1 + margin) < found.low and found.high < 1 + margin
        decided += found.low > 1 + margin or inside
    assert decided / 600 >= 0.85
    if n > 5:
        fewer = rounds_to_decide(Interval(effect, 0, 0, 4, sd), margin, power=0.5)
        assert fewer < n
