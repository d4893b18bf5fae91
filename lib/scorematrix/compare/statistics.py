"""Intervals over rounds, and percentiles that are shown only with enough samples. Floats in, floats out."""

from __future__ import annotations

import bisect
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy import stats

from scorematrix.results.schema import MOST_ROUNDS

CONFIDENCE = 0.95
FAILING = 0.2
"""A failed control or gate on times voids verdicts, so it fails at this share of the usual error level: at 99 %."""
FAILING_CONFIDENCE = 1 - (1 - CONFIDENCE) * FAILING
POWER = 0.9
"""The recommended number of rounds decides with this probability."""
MIN_ROUNDS = 5
"""Fewer rounds never decide (rule 16)."""

PERCENTILE_SAMPLES: dict[int, tuple[int, int]] = {50: (6, 30), 90: (36, 100), 95: (72, 200), 99: (368, 1000)}
"""Percentile: suppressed below the first number of samples, marked wide below the second (rule 17)."""


@dataclass(frozen=True)
class Interval:
    """A geometric mean over n rounds with its 95 % interval, which is unbounded below two rounds.

    Attributes:
        sd_log: standard deviation of the rounds' logarithms: sqrt(n) times the standard error of their mean.
        freedom: degrees of freedom; None: n - 1.
    """

    center: float
    low: float
    high: float
    n: int
    sd_log: float
    freedom: float | None = None


def geometric_interval(values: Sequence[float], confidence: float = CONFIDENCE) -> Interval:
    """Return exp of mean and t interval of the logarithms: for ratios (paired t, rule 22) and for rates.

    Raises:
        ValueError: if there is no value, or one is not positive and finite.
    """
    logs = _logarithms(values, 1)
    n, mean = len(logs), float(np.mean(logs))
    if n == 1:
        return Interval(math.exp(mean), 0.0, math.inf, 1, math.nan)
    sd = float(np.std(logs, ddof=1))
    half = half_width(sd, n, confidence)
    return Interval(math.exp(mean), math.exp(mean - half), math.exp(mean + half), n, sd)


def welch_interval(over: Sequence[float], under: Sequence[float]) -> Interval:
    """Return the ratio of two geometric means of unpaired rounds, with exp of Welch's t interval of the logarithms.

    The two sets may differ in size and in scatter; `n` is the size of the smaller one.

    Raises:
        ValueError: for fewer than two values on a side, or one that is not positive and finite.
    """
    logs = _logarithms(over, 2), _logarithms(under, 2)
    n, mean = min(map(len, logs)), float(np.mean(logs[0]) - np.mean(logs[1]))
    error = math.sqrt(sum(float(np.var(one, ddof=1)) / len(one) for one in logs))
    if error == 0:  # without scatter the interval is a point
        return Interval(math.exp(mean), math.exp(mean), math.exp(mean), n, 0.0)
    test = stats.ttest_ind(*logs, equal_var=False)
    low, high = test.confidence_interval(CONFIDENCE)
    freedom = float(test.df)  # pyright: ignore[reportAttributeAccessIssue]  # scipy sets it at run time
    return Interval(math.exp(mean), math.exp(low), math.exp(high), n, error * math.sqrt(n), freedom)


def _logarithms(values: Sequence[float], fewest: int) -> np.ndarray:
    if len(values) < fewest or not all(math.isfinite(v) and v > 0 for v in values):
        raise ValueError(f"values={list(values)!r} must be at least {fewest}, all positive and finite")
    return np.log(values)


def p_beyond(interval: Interval, bound: float) -> float:
    """Return the two-sided p of the hypothesis that the effect's logarithm is within `bound` of 0, by a t test.

    p is at most 0.05 exactly if the 95 % interval lies entirely beyond the bound; it is 1 below two rounds.
    """
    if interval.n < 2:
        return 1.0
    beyond = abs(math.log(interval.center)) - bound
    if interval.sd_log == 0:
        return 0.0 if beyond > 0 else 1.0
    t = beyond / (interval.sd_log / math.sqrt(interval.n))
    return min(1.0, 2 * float(stats.t.sf(t, interval.freedom or interval.n - 1)))


def holm(p_values: Sequence[float]) -> list[float]:
    """Return p values after Holm's step-down adjustment, in the given order: it controls the family-wise error rate.

    Source: S. Holm, A simple sequentially rejective multiple test procedure, 1979.
    """
    order = sorted(range(len(p_values)), key=lambda i: p_values[i])
    adjusted, largest = [1.0] * len(p_values), 0.0
    for rank, i in enumerate(order):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[i]))
        adjusted[i] = largest
    return adjusted


def half_width(sd_log: float, n: int, confidence: float = CONFIDENCE) -> float:
    """Return half the width of the t interval of a mean of n logarithms."""
    return float(stats.t.ppf((1 + confidence) / 2, n - 1)) * sd_log / math.sqrt(n)


def rounds_to_decide(
    interval: Interval,
    margin: float,
    confidence: float = CONFIDENCE,
    power: float = POWER,
    *,
    widened: float = 0.0,
) -> int | None:
    """Return the total rounds that decide with probability `power`, if true centre and scatter equal the estimates.

    The probability that a t interval of n rounds lies entirely on one side of the margin is that of a noncentral t.
    Near the margin neither win nor tie is in reach: None if more than MOST_ROUNDS would be needed.

    Args:
        widened: the margin that a win needs now, because controls scatter; it narrows as intervals do.
    """
    if interval.n < 2:
        return None
    center, bound = abs(math.log(interval.center)), math.log1p(margin)
    fewest = max(interval.n + 1, MIN_ROUNDS)
    scatter = math.log1p(widened) / half_width(1.0, interval.n, confidence) if widened > margin else 0.0
    if interval.sd_log == 0 and not scatter:
        return fewest if center != bound else None

    def decides(n: int) -> bool:
        distance = bound - center
        if center > bound:
            distance = center - max(bound, half_width(scatter, n, confidence))
        if interval.sd_log == 0:
            return distance > 0
        needed = stats.t.ppf((1 + confidence) / 2, n - 1)
        chance = stats.nct.sf(needed, n - 1, distance * math.sqrt(n) / interval.sd_log)
        return bool(chance >= power)  # False for NaN

    # Bisection is valid because the chance grows with the rounds.
    n_rounds = fewest + bisect.bisect_left(range(fewest, MOST_ROUNDS + 1), True, key=decides)
    return n_rounds if n_rounds <= MOST_ROUNDS else None


@dataclass(frozen=True)
class Percentile:
    """A percentile of pooled samples with its order-statistic interval (95 %), in the samples' unit.

    With too few samples, `state` is `suppressed` and there is no value.
    """

    percent: int
    state: Literal["shown", "wide", "suppressed"]
    n: int
    value: float | None = None
    low: float | None = None
    high: float | None = None


def percentile(samples: Sequence[float], percent: int, n_rounds: int) -> Percentile:
    """Return a percentile, suppressed with too few samples or rounds (rule 17).

    Raises:
        ValueError: for a percent without a rule.
    """
    if percent not in PERCENTILE_SAMPLES:
        raise ValueError(f"percent={percent} has no sample rule; choose one of {sorted(PERCENTILE_SAMPLES)}")
    suppress_below, wide_below = PERCENTILE_SAMPLES[percent]
    n = len(samples)
    if n < suppress_below or n_rounds < MIN_ROUNDS:
        return Percentile(percent, "suppressed", n)
    ordered = np.sort(samples)
    p = percent / 100
    low_rank = int(stats.binom.ppf((1 - CONFIDENCE) / 2, n, p))
    high_rank = int(stats.binom.ppf((1 + CONFIDENCE) / 2, n, p))
    return Percentile(
        percent,
        "wide" if n < wide_below else "shown",
        n,
        float(np.quantile(ordered, p)),
        float(ordered[max(low_rank - 1, 0)]),
        float(ordered[min(high_rank, n - 1)]),
    )
