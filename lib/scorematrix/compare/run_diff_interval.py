"""Compute the interval of a ratio between two unpaired sets of rounds: two runs are never interleaved."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from scorematrix.compare.statistics import CONFIDENCE


@dataclass(frozen=True)
class UnpairedRatio:
    """The ratio of two geometric means with its 95 % interval.

    Attributes:
        error_log: standard error of the difference of the mean logarithms.
        freedom: degrees of freedom by Welch and Satterthwaite.
    """

    center: float
    low: float
    high: float
    n_over: int
    n_under: int
    error_log: float
    freedom: float


def welch_interval(over: Sequence[float], under: Sequence[float]) -> UnpairedRatio:
    """Return exp of Welch's t interval of the logarithms: the two sets may differ in size and in scatter.

    Source: B. L. Welch, The generalization of Student's problem when several different population variances are
    involved, 1947.

    Raises:
        ValueError: for fewer than two values on a side, or one that is not positive and finite.
    """
    for name, values in (("over", over), ("under", under)):
        if len(values) < 2 or not all(math.isfinite(v) and v > 0 for v in values):
            raise ValueError(f"{name}={list(values)!r} must be at least two numbers, all positive and finite")
    logs = np.log(over), np.log(under)
    shares = [float(np.var(one, ddof=1)) / len(one) for one in logs]
    error = math.sqrt(sum(shares))
    # Without scatter the interval is a point.
    freedom = (
        sum(shares) ** 2 / sum(s**2 / (len(one) - 1) for s, one in zip(shares, logs, strict=True))
        if error
        else math.inf
    )
    mean = float(np.mean(logs[0]) - np.mean(logs[1]))
    half = float(stats.t.ppf((1 + CONFIDENCE) / 2, freedom)) * error
    low, high = math.exp(mean - half), math.exp(mean + half)
    return UnpairedRatio(math.exp(mean), low, high, len(over), len(under), error, freedom)


def p_beyond_margin(ratio: UnpairedRatio, margin: float) -> float:
    """Return the two-sided p of the hypothesis that the ratio is within the margin of 1, by a Welch t test."""
    beyond = abs(math.log(ratio.center)) - math.log1p(margin)
    if ratio.error_log == 0:
        return 0.0 if beyond > 0 else 1.0
    return min(1.0, 2 * float(stats.t.sf(beyond / ratio.error_log, ratio.freedom)))
