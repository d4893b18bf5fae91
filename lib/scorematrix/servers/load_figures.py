"""Summarise a load record: rates, percentiles with enough samples, and whether server or generator set the limit."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import chain

import numpy as np

from scorematrix.compare.statistics import PERCENTILE_SAMPLES, Percentile, percentile
from scorematrix.servers.load_records import LoadCeiling, LoadPoint, LoadRecord

SHOWN_PERCENTS = (50, 95, 99)
LAG_SHARE = 0.1
"""If the p99 lateness exceeds this share of the median latency, an open loop measures the generator."""
CEILING_SHARE = 0.5
"""A rate above this share of the generator's ceiling may be the generator's limit."""
BUSY_SHARE = 0.9
"""Of one core: a closed loop's generator above this share has no headroom left."""


@dataclass(frozen=True)
class PointFigures:
    """One point of a load record.

    Attributes:
        goodput: requests a second within the objective; None without an objective.
        latency: percentiles in nanoseconds with state and, if every window has enough samples, the range over windows.
            Latencies of one queue are not independent, so samples give no valid interval (rule 29).
        lag_p99_ns: how late the generator sent, open loop only.
        limited_by_generator: why the generator may limit the figure; None: the server limits it.
        shortfall: open loop: why the rate was not sustained; None: it was.
    """

    point: LoadPoint
    requests_per_second: float
    items_per_second: float
    goodput: float | None
    latency: tuple[Percentile, ...]
    lag_p99_ns: float | None
    limited_by_generator: str | None
    shortfall: str | None

    @property
    def p95_ns(self) -> float | None:
        """Return the 95th percentile of the latency; None with too few samples."""
        return next(one.value for one in self.latency if one.percent == 95)


def point_figures(point: LoadPoint, record: LoadRecord) -> PointFigures:
    """Compute the figures of one point."""
    rate, objective = point.requests_per_second, record.objective_seconds
    pooled = list(chain.from_iterable(window.latency_ns for window in point.windows))
    lags = list(chain.from_iterable(window.lag_ns for window in point.windows))
    lag = float(np.quantile(lags, 0.99)) if lags else None
    median = float(np.median(pooled)) if pooled else None
    return PointFigures(
        point=point,
        requests_per_second=rate,
        items_per_second=rate * record.workload.n_items,
        goodput=None if objective is None else point.within(objective) / point.seconds,
        latency=tuple(_percentile(point, pooled, percent) for percent in SHOWN_PERCENTS),
        lag_p99_ns=lag,
        limited_by_generator=_limit(point, rate, lag, median, record.ceiling),
        shortfall=point.shortfall(objective) if point.kind == "open" else None,
    )


def record_figures(record: LoadRecord) -> list[PointFigures]:
    """Compute the figures of all points, in the order of measuring."""
    return [point_figures(point, record) for point in record.points]


def highest_sustained(figures: list[PointFigures]) -> PointFigures | None:
    """Return the open-loop point with the highest sustained rate; None if no rate was sustained or offered."""
    kept = [f for f in figures if f.point.kind == "open" and f.shortfall is None]
    return max(kept, key=lambda f: f.point.rate or 0.0, default=None)


def best_closed(figures: list[PointFigures]) -> PointFigures | None:
    """Return the closed-loop point with the most sound answers a second; None if nothing was answered."""
    answered = [f for f in figures if f.point.kind == "closed" and f.requests_per_second > 0]
    return max(answered, key=lambda f: f.requests_per_second, default=None)


def load_sentence(record: LoadRecord) -> str:
    """Summarise a load record in one sentence."""
    figures = record_figures(record)
    best, kept = best_closed(figures), highest_sustained(figures)
    parts = []
    if best is not None:
        rates = f"{in_words(best.requests_per_second)} requests/s ({in_words(best.items_per_second)} items/s)"
        parts.append(f"{rates} at best, with {best.point.concurrency} at once")
    if kept is not None:
        within = f" with 95 % within {record.objective_seconds * 1e3:g} ms" if record.objective_seconds else ""
        parts.append(f"{in_words(kept.point.rate or 0.0)} requests/s offered are sustained{within}")
    elif any(f.point.kind == "open" for f in figures):
        least = min((f for f in figures if f.point.kind == "open"), key=lambda f: f.point.rate or 0.0)
        parts.append(
            f"not even {in_words(least.point.rate or 0.0)} requests/s offered are sustained: {least.shortfall}"
        )
    totals = [point.totals for point in record.points]
    refused, failed = sum(t.refused for t in totals), _failures(record)
    parts.append(f"{refused:,} refused" if refused else "none refused")
    parts.append(", ".join(f"{n:,} failed ({kind})" for kind, n in failed.items()) or "none failed")
    if surplus := sum(point.surplus for point in record.points):
        parts.append(f"{surplus} unrequested answers")
    chosen = [f for f in (best, kept) if f is not None and f.limited_by_generator]
    if chosen:
        parts.append(f"the generator may be the limit, not the server: {chosen[0].limited_by_generator}")
    if best is None and kept is None:
        parts.insert(0, "no sound answer")
    return f"{record.server}: " + "; ".join(parts)


def in_words(rate: float) -> str:
    """Format a rate with three significant digits, or as an integer from 100: 3,232 or 12.3 or 0.0456."""
    return f"{rate:,.0f}" if rate >= 100 else f"{rate:.3g}"


def _failures(record: LoadRecord) -> dict[str, int]:
    counts: dict[str, int] = {}
    for point in record.points:
        for kind, n in point.totals.failed.items():
            counts[kind] = counts.get(kind, 0) + n
    return counts


def _percentile(point: LoadPoint, pooled: list[int], percent: int) -> Percentile:
    """Return the pooled percentile with its range over windows; six windows give a 97 % interval of the median."""
    pooled_value = replace(percentile(pooled, percent, len(point.windows)), low=None, high=None)
    enough = PERCENTILE_SAMPLES[percent][0]
    if pooled_value.state == "suppressed" or any(len(window.latency_ns) < enough for window in point.windows):
        return pooled_value
    each = [float(np.quantile(window.latency_ns, percent / 100)) for window in point.windows]
    return replace(pooled_value, low=min(each), high=max(each))


def _limit(
    point: LoadPoint, rate: float, lag: float | None, median: float | None, ceiling: LoadCeiling | None
) -> str | None:
    if ceiling is not None and rate > CEILING_SHARE * ceiling.requests_per_second:
        return (
            f"{rate / ceiling.requests_per_second:.0%} of the {ceiling.requests_per_second:,.0f} requests/s it can do"
        )
    if point.kind == "closed" and point.generator_cpu_share > BUSY_SHARE:
        return f"it took {point.generator_cpu_share:.0%} of a core"
    if lag is not None and median is not None and lag > LAG_SHARE * median:
        return f"it sent up to {lag / 1e6:.2g} ms late (p99), the median latency is {median / 1e6:.2g} ms"
    return None
