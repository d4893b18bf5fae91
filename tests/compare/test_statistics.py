"""Intervals and percentiles against scipy's own and against the rulebook's tables."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from scorematrix.compare.statistics import geometric_interval, half_width, percentile, rounds_to_decide


def test_interval_is_scipys_paired_t() -> None:
    rng = np.random.default_rng(0)
    a, b = np.exp(rng.normal(0.1, 0.02, 8)), np.exp(rng.normal(0, 0.02, 8))
    found = geometric_interval((a / b).tolist())
    low, high = stats.ttest_rel(np.log(a), np.log(b)).confidence_interval(0.95)
    assert found.center == pytest.approx(stats.gmean(a / b))
    assert (math.log(found.low), math.log(found.high)) == pytest.approx((low, high))


def test_coverage_at_five_rounds() -> None:
    """The 95 % interval holds the truth in about 95 % of simulated runs, at the smallest number that may decide."""
    rng = np.random.default_rng(1)
    hits = 0
    for ratios in np.exp(rng.normal(0.05, 0.014, (2000, 5))):
        found = geometric_interval(ratios.tolist())
        hits += found.low <= math.exp(0.05) <= found.high
    assert 0.935 <= hits / 2000 <= 0.965


@pytest.mark.parametrize("values", [[], [1.0, 0.0], [1.0, -1.0], [1.0, math.nan], [math.inf]])
def test_interval_refuses_what_has_no_logarithm(values: list[float]) -> None:
    with pytest.raises(ValueError, match="positive"):
        geometric_interval(values)


# Rule 16's table: rounds for a half-width, by the SD of the per-round log-ratio.
@pytest.mark.parametrize(
    ("sd", "half", "rounds"),
    [(0.01, 0.01, 7), (0.02, 0.015, 10), (0.02, 0.01, 18), (0.03, 0.025, 9), (0.03, 0.015, 18)],
)
def test_half_width_agrees_with_the_rulebook(sd: float, half: float, rounds: int) -> None:
    assert half_width(sd, rounds) <= half * 1.03
    assert half_width(sd, rounds - 1) > half * 0.97


def test_rounds_to_decide() -> None:
    tight = geometric_interval([1.05, 1.06, 1.04, 1.05, 1.06])
    assert rounds_to_decide(tight, 0.03) == 6
    at_margin = geometric_interval([1.02, 1.03, 1.04, 1.0300001, 1.03])
    assert rounds_to_decide(at_margin, 0.03) is None or rounds_to_decide(at_margin, 0.03) > 100


@pytest.mark.parametrize(
    ("percent", "n", "state"),
    [(50, 5, "suppressed"), (50, 6, "wide"), (50, 30, "shown"), (90, 35, "suppressed"), (90, 36, "wide"),
     (90, 100, "shown"), (95, 71, "suppressed"), (95, 72, "wide"), (95, 200, "shown"), (99, 367, "suppressed"),
     (99, 368, "wide"), (99, 1000, "shown")],
)  # fmt: skip
def test_percentiles_need_samples(percent: int, n: int, state: str) -> None:
    found = percentile(list(range(n)), percent, n_rounds=5)
    assert found.state == state
    assert (found.value is None) == (state == "suppressed")


def test_percentiles_need_five_rounds() -> None:
    assert percentile(list(range(2000)), 50, n_rounds=4).state == "suppressed"


def test_percentile_interval_covers() -> None:
    rng = np.random.default_rng(2)
    hits = 0
    for _ in range(500):
        found = percentile(rng.exponential(size=200).tolist(), 95, n_rounds=5)
        hits += found.low <= -math.log(0.05) <= found.high
    assert hits / 500 >= 0.93
