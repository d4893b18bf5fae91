"""Schedule the looks at a run: round counts fixed beforehand. Looking after every round would make winners of noise.

With K looks, each interval has confidence 1 - 0.05 / K, so all looks together keep the level (Bonferroni over looks).
That is exact for the t interval of few rounds; boundaries from alpha-spending functions are valid only for many.
Bonferroni costs little power here, because the looks are few.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from scorematrix.compare.statistics import CONFIDENCE


@dataclass(frozen=True)
class Looks:
    """The counts of confirmation rounds at which a verdict may fall.

    Attributes:
        first_index: index of the first confirmation round.
        counts: ascending; the last is the most rounds that the run will have.
    """

    first_index: int
    counts: tuple[int, ...]

    @property
    def confidence(self) -> float:
        """Return the confidence of each look's interval, such that all looks together keep to 95 %."""
        return 1 - (1 - CONFIDENCE) / len(self.counts)

    def indices(self, count: int) -> range:
        """Return the round indices that a look uses."""
        return range(self.first_index, self.first_index + count)


def look_schedule(params: Mapping[str, Any]) -> Looks:
    """Return the looks: at `rounds`, doubling up to `max_rounds`; one look if a run has no `max_rounds`."""
    count, most = params["rounds"], params.get("max_rounds") or params["rounds"]
    counts = []
    while count < most:
        counts.append(count)
        count *= 2
    return Looks(params["tuning_rounds"], (*counts, most))
