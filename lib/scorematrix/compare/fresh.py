"""Judge a side on tokens drawn during the run, which nobody could have known, cached or prepared."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np

from scorematrix.compare.evidence import SideEvidence
from scorematrix.compare.gates import gate_status, limit_gate
from scorematrix.compare.numerics import BETWEEN_SIDES, Caps, Distance, distance
from scorematrix.compare.pairs import central
from scorematrix.compare.schema import Gate
from scorematrix.compare.statistics import geometric_interval
from scorematrix.results.cells import Cell, Turn

FRESH_SHARE = 1.1
"""Drawn tokens may take this many times as long as the workload's tokens (rule 36)."""
LEAST_ROUNDS = 3
ROUNDED_SIDES = Caps(mean=BETWEEN_SIDES.mean, p99=BETWEEN_SIDES.p99, max=0.06)
"""In bfloat16, `max` is the cap against the reference (rule 32). Drawn tokens differ from run to run and some of them
round badly: on 1 in 25 drawn requests of a random model, two honest engines differed by 0.02 to 0.026."""
LOGARITHMS = 0.25
"""Allowed mean difference of log probabilities. Labels that a real model finds improbable have probabilities near 0
for every request. Honest engines differ by up to 0.04 (bfloat16), answers to two different requests by 1 or more."""
LEAST_PROBABILITY = 1e-12
"""Smaller probabilities are raised to this one, because their logarithms carry no information."""


def fresh_scores_gate(sides: Sequence[SideEvidence]) -> Gate | None:
    """Check that both sides score the same drawn tokens alike. None if no tokens were drawn for both."""
    if len(sides) != 2:
        return None
    answers = [dict(_answers(side)) for side in sides]
    both = answers[0].keys() & answers[1].keys()
    if not both:
        return None
    arrays = [[np.asarray(by_key[key], float) for key in sorted(both)] for by_key in answers]
    caps = ROUNDED_SIDES if any(side.dtype == "bfloat16" for side in sides) else BETWEEN_SIDES
    pairs = list(zip(*arrays, strict=True))
    what = f"{len(both)} requests of tokens drawn during the run: largest difference between the sides"
    return _scores_gate("drawn tokens", what, [distance([a], [b]) for a, b in pairs], pairs, caps)


def fresh_reference_gate(side: SideEvidence) -> Gate | None:
    """Check the scores of drawn tokens against the reference. None if the reference scored none of these tokens."""
    known = {(sample.index, sample.request, sample.seed): sample for sample in side.samples}
    pairs = []
    for round_, cell in side.sound_cells():
        for turn in cell.turns:
            sample = known.get((round_.index, turn.request, turn.fresh_seed or 0))
            if sample is not None and turn.fresh_scores is not None:
                scores = np.asarray(turn.fresh_scores, float)
                pairs.append((scores[sample.items], np.asarray(sample.scores, float)))
    if not pairs:
        return None
    actual, expected = zip(*pairs, strict=True)
    caps = Caps(mean=side.caps.mean, p99=math.inf, max=side.caps.max)  # of few values, the 99th percentile is the max
    what = f"{sum(map(len, actual))} items of tokens drawn during the run: largest difference from the reference"
    return _scores_gate(f"drawn tokens' scores {side.backend}", what, [distance(actual, expected)], pairs, caps)


def fresh_time_gate(side: SideEvidence) -> Gate | None:
    """Fail if drawn tokens surely take more than FRESH_SHARE times as long as the workload's.

    None with fewer than LEAST_ROUNDS rounds that have any.
    """
    ratios = []
    for round_ in side.confirm:
        cell = round_.cell(side.best_chunk) if side.best_chunk is not None else None
        if cell is not None and (logs := list(_over_neighbours(cell))):
            ratios.append(float(np.exp(central(logs))))
    if len(ratios) < LEAST_ROUNDS:
        return None
    interval = geometric_interval(ratios)
    detail = (
        f"requests of tokens drawn during the run take {interval.center:.3f} times as long as the workload's "
        f"({interval.low:.3f} to {interval.high:.3f}), {FRESH_SHARE:.2f} allowed"
    )
    name, passed = f"drawn tokens' time {side.backend}", interval.low <= FRESH_SHARE
    return limit_gate(name, passed, detail, "ratio", interval.center, FRESH_SHARE)


def _answers(side: SideEvidence) -> Iterator[tuple[tuple, list[list[float]]]]:
    """Yield (group, request, seed) and the scores of the tokens drawn for it."""
    for round_, cell in side.sound_cells():
        for turn in cell.turns:
            if turn.fresh_seed is not None and turn.fresh_scores is not None:
                yield (round_.group or "", turn.request, turn.fresh_seed), turn.fresh_scores


def _scores_gate(
    name: str, what: str, apart: Sequence[Distance], pairs: Sequence[tuple[np.ndarray, np.ndarray]], caps: Caps
) -> Gate:
    """Compare the distances with the caps, and the log distance of every pair of answers with LOGARITHMS."""
    measured = {
        "max": max(d.max for d in apart),
        "mean": max(d.mean for d in apart),
        "mean_log": max(_log_distance(a, b) for a, b in pairs),
    }
    return Gate(
        name=name,
        status=gate_status(all(d.within(caps) for d in apart) and measured["mean_log"] <= LOGARITHMS),
        detail=f"{what} {measured['max']:.1e} ({caps.max:.0e} allowed), mean difference of logarithms "
        f"{measured['mean_log']:.1e} ({LOGARITHMS} allowed)",
        found=measured,
        allowed={"max": caps.max, "mean": caps.mean, "mean_log": LOGARITHMS},
    )


def _log_distance(scores: np.ndarray, other: np.ndarray) -> float:
    """Return the mean absolute difference of log probabilities; infinite if a score is not finite."""
    if not (np.isfinite(scores).all() and np.isfinite(other).all()):
        return math.inf
    logs = [np.log(np.maximum(one, LEAST_PROBABILITY)) for one in (scores, other)]
    return float(np.abs(logs[0] - logs[1]).mean())


def _over_neighbours(cell: Cell) -> Iterator[float]:
    """Yield the log of each drawn turn's time over that of the same request's turns just before and after it."""
    for request in sorted({turn.request for turn in cell.turns}):
        turns = sorted((t for t in cell.turns if t.request == request and t.replaced_ns is None), key=lambda t: t.lap)
        seconds = [float(np.log(sum(cell.call_ns[t.pass_index][t.request]))) for t in turns]
        for i, turn in enumerate(turns):
            neighbours = [seconds[j] for j in (i - 1, i + 1) if 0 <= j < len(turns) and _is_own(turns[j])]
            if not _is_own(turn) and neighbours:
                yield seconds[i] - float(np.mean(neighbours))


def _is_own(turn: Turn) -> bool:
    return turn.fresh_seed is None
