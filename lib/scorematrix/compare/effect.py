"""A ratio with its interval, and where its scatter comes from."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from pydantic import Field

from scorematrix.compare.pairs import PairRatio
from scorematrix.compare.statistics import Interval, geometric_interval
from scorematrix.results.cells import Part


class Effect(Part):
    """A ratio of times with its 95 % interval by paired t over rounds; in a contrast, the first side over the other."""

    ratio: float
    low: float
    high: float
    n_rounds: int
    sd_log: float

    @classmethod
    def of(cls, interval: Interval | None) -> Effect | None:
        """Convert an interval to an effect; None below two rounds, which give no interval yet."""
        if interval is None or interval.n < 2:
            return None
        return cls(
            ratio=interval.center, low=interval.low, high=interval.high, n_rounds=interval.n, sd_log=interval.sd_log
        )

    @property
    def interval(self) -> Interval:
        """The interval that this effect was made from."""
        return Interval(self.ratio, self.low, self.high, self.n_rounds, self.sd_log)

    @property
    def inverse(self) -> Effect:
        """The same with numerator and denominator exchanged: a speed instead of a time."""
        return self.model_copy(update={"ratio": 1 / self.ratio, "low": 1 / self.high, "high": 1 / self.low})


class InTurns(Part):
    """Counts and scatter of the turns from which a contrast's effect was estimated."""

    n_pairs: int
    n_turns: int = Field(description="pairs of neighbouring turns, of all pairs of rounds together")
    n_disturbed: int = Field(description="of these, how many ran while other processes were busy")
    only_clean: bool = Field(description="whether the effect leaves these out in every pair of rounds")
    with_disturbed: Effect | None = Field(description="the effect with all turns")
    machine_log: float | None = Field(description="scatter of neighbouring turns' log ratios, within a pair of rounds")
    process_log: float | None = Field(description="scatter between pairs of rounds beyond what their turns explain")

    @classmethod
    def of(cls, pairs: Sequence[PairRatio], confidence: float) -> InTurns | None:
        """Summarise the pairs that were measured in turns; None for fewer than two."""
        pairs = [pair for pair in pairs if pair.n_turns]
        if len(pairs) < 2:
            return None
        between = float(np.var(np.log([pair.ratio for pair in pairs]), ddof=1))
        within = float(np.mean(np.square([pair.error_log for pair in pairs])))
        scatter = float(np.sqrt(np.mean(np.square([pair.scatter_log for pair in pairs]))))
        known = math.isfinite(scatter)
        return cls(
            n_pairs=len(pairs),
            n_turns=sum(pair.n_turns for pair in pairs),
            n_disturbed=sum(pair.n_disturbed for pair in pairs),
            only_clean=all(pair.only_clean for pair in pairs),
            with_disturbed=Effect.of(geometric_interval([pair.ratio_all for pair in pairs], confidence)),
            machine_log=scatter if known else None,
            process_log=math.sqrt(max(0.0, between - within)) if known else None,
        )
