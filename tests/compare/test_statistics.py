"""Intervals and percentiles against scipy's own and against the rulebook's tables."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from scorematrix.compare.statistics import (
    Interval,
    geometric_interval,
    half_width,
    holm,
    p_beyond,
    percentile,
    rounds_to_decide,
)


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
    assert rounds_to_decide(at_margin, 0.03) is None


def test_a_margin_that_controls_widened_narrows_with_the_rounds() -> None:
    """Asked of simulated runs of that many rounds: nine of ten decide, of half as many fewer."""
    sd, effect, margin = 0.03, math.log(1.07), 0.03
    now = Interval(math.exp(effect), 0, 0, 5, sd)
    widened = math.expm1(2 * half_width(sd, 5))
    assert widened > margin
    needed = rounds_to_decide(now, margin, widened=widened)
    assert needed is not None and needed > (rounds_to_decide(now, margin) or 0)
    rng = np.random.default_rng(4)

    def decided(n: int) -> float:
        means = rng.normal(effect, sd / math.sqrt(n), 4000)
        halves = stats.t.ppf(0.975, n - 1) * np.sqrt(sd**2 * rng.chisquare(n - 1, 4000) / (n - 1) / n)
        return float(np.mean(means - halves > max(math.log1p(margin), 2 * half_width(sd, n))))

    assert decided(needed) > 0.87 and decided(needed - 3) < 0.9


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


@pytest.mark.parametrize(
    ("p_values", "adjusted"),
    [
        ([], []),
        ([0.04], [0.04]),
        ([0.01, 0.04, 0.03], [0.03, 0.06, 0.06]),
        ([0.04, 0.9], [0.08, 0.9]),
        ([0.9, 0.8], [1.0, 1.0]),
    ],
)
def test_holm(p_values: list[float], adjusted: list[float]) -> None:
    assert holm(p_values) == pytest.approx(adjusted)


def test_p_of_a_win_is_the_intervals() -> None:
    """p is at most 0.05 exactly where the whole interval lies beyond the margin."""
    rng, bound = np.random.default_rng(3), math.log1p(0.03)
    seen = set()
    for shift in np.linspace(0, 0.1, 200):
        found = geometric_interval(np.exp(rng.normal(shift, 0.02, 6)).tolist())
        wins = math.log(found.low) > bound or math.log(found.high) < -bound
        assert (p_beyond(found, bound) <= 0.05) == wins
        seen.add(wins)
    assert seen == {True, False}
    assert p_beyond(geometric_interval([2.0]), bound) == 1.0
    assert p_beyond(geometric_interval([2.0] * 5), bound) == 0.0


def test_holm_keeps_false_wins_of_a_family_at_the_level() -> None:
    """Four contrasts at the margin's very edge, where chance alone would name a winner most often."""
    rng, bound = np.random.default_rng(5), math.log1p(0.03)
    named = {"alone": 0, "family": 0}
    for _ in range(1000):
        ratios = np.exp(rng.normal(bound, 0.01, (4, 5)))
        raw = [p_beyond(geometric_interval(row.tolist()), bound) for row in ratios]
        named["alone"] += min(raw) <= 0.05
        named["family"] += min(holm(raw)) <= 0.05
    assert named["family"] <= 40 < 60 < named["alone"]
