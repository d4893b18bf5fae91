"""Compute the time ratio of two rounds measured together, from neighbouring turns if there are any."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median

import numpy as np

from scorematrix.compare.rounds import is_sound
from scorematrix.results.cells import Cell
from scorematrix.results.figures import pass_seconds
from scorematrix.results.schema import Round

FEWEST_CLEAN = 3
"""Disturbed turns are left out only if each request keeps this many pairs of turns, and at least half of its pairs."""

Logs = Mapping[int, Sequence[float]]


@dataclass(frozen=True)
class PairRatio:
    """The ratio of the seconds of two cells in one pair of rounds.

    Attributes:
        ratio: the first cell's seconds over the second's.
        ratio_all: the same with disturbed turns; equal to `ratio` if none was disturbed, or too many were.
        n_turns: pairs of neighbouring turns; 0: the rounds were measured one after the other.
        n_disturbed: how many of these pairs other processes disturbed.
        only_clean: whether `ratio` leaves out the disturbed pairs.
        scatter_log: standard deviation of the log ratios of neighbouring turns.
        error_log: standard error of the ratio's logarithm from that scatter, for a Hodges-Lehmann estimate.
    """

    ratio: float
    ratio_all: float
    n_turns: int = 0
    n_disturbed: int = 0
    only_clean: bool = False
    scatter_log: float = math.nan
    error_log: float = math.nan


def pair_ratios(
    over: Iterable[Round], over_chunk: int, under: Iterable[Round], under_chunk: int, slowdown: float = 1.0
) -> dict[int, PairRatio]:
    """Return the ratio of every round index at which both have a sound cell, by index.

    Args:
        slowdown: of the first's cells.
    """
    others = {r.index: r for r in under}
    ratios = {}
    for first in over:
        second = others.get(first.index)
        if second is None:
            continue
        a, b = first.cell(over_chunk, slowdown), second.cell(under_chunk)
        if is_sound(a, first) and is_sound(b, second):
            ratios[first.index] = _pair(first, a, second, b)
    return dict(sorted(ratios.items()))


def _pair(first: Round, over: Cell, second: Round, under: Cell) -> PairRatio:
    times = _turn_seconds(over), _turn_seconds(under)
    both = times[0].keys() & times[1].keys()
    if first.group is None or first.group != second.group or not both:
        ratio = median(pass_seconds(over.call_ns)) / median(pass_seconds(under.call_ns))
        return PairRatio(ratio, ratio)
    logs, clean, weights = defaultdict(list), defaultdict(list), defaultdict(list)
    for lap, request in sorted(both):
        (a, a_disturbed), (b, b_disturbed) = times[0][lap, request], times[1][lap, request]
        logs[request].append(math.log(a / b))
        weights[request].append(b)
        if not (a_disturbed or b_disturbed):
            clean[request].append(math.log(a / b))
    share = {request: median(seconds) for request, seconds in weights.items()}
    only_clean = all(
        len(clean[request]) >= max(FEWEST_CLEAN, len(of_request) / 2) for request, of_request in logs.items()
    )
    used = clean if only_clean else logs
    n_used = sum(map(len, used.values()))
    scatter = _scatter(used)
    return PairRatio(
        ratio=_weighted(used, share),
        ratio_all=_weighted(logs, share),
        n_turns=len(both),
        n_disturbed=len(both) - sum(map(len, clean.values())),
        only_clean=only_clean,
        scatter_log=scatter,
        error_log=math.sqrt(math.pi / 3) * scatter / math.sqrt(n_used),
    )


def _turn_seconds(cell: Cell) -> dict[tuple[int, int], tuple[float, bool]]:
    """Return the seconds of every turn that counts, and whether it was disturbed, by lap and request."""
    return {
        (turn.lap, turn.request): (sum(cell.call_ns[turn.pass_index][turn.request]) / 1e9, turn.disturbed)
        for turn in cell.turns
        if turn.replaced_ns is None
    }


def _weighted(logs: Logs, share: Mapping[int, float]) -> float:
    """Average each request's central ratio, weighted by the second side's seconds: a ratio of sums over requests."""
    return sum(share[request] * math.exp(central(values)) for request, values in logs.items()) / sum(share.values())


def central(values: Sequence[float]) -> float:
    """Return the Hodges-Lehmann estimate: the median of the means of any two values, each with itself too.

    On log ratios of recorded turns, it scatters a sixth less than the median and no more than the mean. It tolerates up
    to 29 % outliers.

    Source: J. L. Hodges, E. L. Lehmann, Estimates of location based on rank tests, 1963.
    """
    i, j = np.triu_indices(len(values))
    known = np.asarray(values)
    return float(np.median((known[i] + known[j]) / 2))


def _scatter(logs: Logs) -> float:
    """Return the standard deviation of the logarithms about their request's mean; NaN if no request has two."""
    deviations = [log - np.mean(of_request) for of_request in logs.values() for log in of_request]
    freedom = len(deviations) - len(logs)
    return math.sqrt(float(np.sum(np.square(deviations))) / freedom) if freedom > 0 else math.nan
