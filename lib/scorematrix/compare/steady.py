"""Judge whether a process had settled when it was timed, by comparing quarters of its passes in order (rule 14)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median
from typing import Literal

import numpy as np

from scorematrix.compare.evidence import SideEvidence
from scorematrix.compare.statistics import FAILING_CONFIDENCE, Interval, geometric_interval
from scorematrix.results.figures import pass_seconds

SteadyClass = Literal["steady", "warming", "slowing", "unsteady"]
LEAST_PASSES = 4
TOLERANCE = {"cpu": 0.03}
OTHER_TOLERANCE = 0.01


@dataclass(frozen=True)
class Steadiness:
    """Steadiness of one side at its chosen chunk size, over its confirmation rounds.

    Attributes:
        drift: last quarter over second quarter, over the rounds, with its 99 % interval.
        classes: number of rounds by class.
        tolerance: allowed drift, as a fraction.
    """

    drift: Interval
    classes: dict[SteadyClass, int]
    tolerance: float


def steadiness(side: SideEvidence) -> Steadiness | None:
    """Return the steadiness of a side; None if no round has four timed passes."""
    if side.best_chunk is None:
        return None
    cells = [cell for r in side.confirm if (cell := r.cell(side.best_chunk)) and cell.status == "ok"]
    series = [pass_seconds(cell.call_ns) for cell in cells]
    series = [seconds for seconds in series if len(seconds) >= LEAST_PASSES]
    if not series:
        return None
    tolerance = TOLERANCE.get(side.target, OTHER_TOLERANCE)
    quarters = [quarter_medians(seconds) for seconds in series]
    drift = geometric_interval([last / second for _, second, _, last in quarters], FAILING_CONFIDENCE)
    return Steadiness(drift, dict(Counter(classify(q, tolerance) for q in quarters)), tolerance)


def quarter_medians(seconds: Sequence[float]) -> tuple[float, float, float, float]:
    """Return the median of each quarter of a series of at least four values."""
    first, second, third, last = (median(part.tolist()) for part in np.array_split(np.asarray(seconds), 4))
    return first, second, third, last


def classify(quarters: tuple[float, float, float, float], tolerance: float) -> SteadyClass:
    """Classify one round by its quarters; the first quarter is still warm-up."""
    _, second, third, last = quarters
    drift = last / second - 1
    if drift < -tolerance:
        return "warming"
    if drift > tolerance:
        return "slowing"
    return "unsteady" if abs(third / second - 1) > 2 * tolerance else "steady"
