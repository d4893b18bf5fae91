"""What a side makes of tokens that were drawn during the run: nobody could have known, kept or prepared them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from scorematrix.compare.evidence import SideEvidence
from scorematrix.compare.gates import gate_status
from scorematrix.compare.numerics import BETWEEN_SIDES, distance
from scorematrix.compare.pairs import central
from scorematrix.compare.schema import Gate
from scorematrix.compare.statistics import geometric_interval
from scorematrix.results.cells import Cell, Turn

FRESH_SHARE = 1.1
"""Drawn tokens may take so many times as long as the workload's own (rule 36)."""
LEAST_ROUNDS = 3


def fresh_scores_gate(sides: Sequence[SideEvidence]) -> Gate | None:
    """Both sides score the tokens that were drawn for both alike. None where none were."""
    if len(sides) != 2:
        return None
    own = [dict(_answers(side)) for side in sides]
    both = own[0].keys() & own[1].keys()
    if not both:
        return None
    arrays = [[np.asarray(answers[key], float) for key in sorted(both)] for answers in own]
    worst = max((distance([a], [b]) for a, b in zip(*arrays, strict=True)), key=lambda d: d.max)
    passed = all(distance([a], [b]).within(BETWEEN_SIDES) for a, b in zip(*arrays, strict=True))
    return Gate(
        name="drawn tokens",
        status=gate_status(passed),
        detail=f"{len(both)} requests of tokens drawn during the run: largest difference between the sides "
        f"{worst.max:.1e} of {BETWEEN_SIDES.max:.0e} allowed",
        found={"max": worst.max, "mean": worst.mean},
        allowed={"max": BETWEEN_SIDES.max, "mean": BETWEEN_SIDES.mean},
    )


def fresh_time_gate(side: SideEvidence) -> Gate | None:
    """Drawn tokens take as long as the workload's own. None where too few rounds have any."""
    ratios = []
    for round_ in side.confirm:
        cell = round_.cell(side.best_chunk) if side.best_chunk is not None else None
        if cell is not None and (logs := list(_over_neighbours(cell))):
            ratios.append(float(np.exp(central(logs))))
    if len(ratios) < LEAST_ROUNDS:
        return None
    found = geometric_interval(ratios)
    return Gate(
        name=f"drawn tokens' time {side.backend}",
        status=gate_status(found.low <= FRESH_SHARE),
        detail=f"requests of tokens drawn during the run take {found.center:.3f} times as long as the workload's own "
        f"({found.low:.3f} to {found.high:.3f}), {FRESH_SHARE:.2f} allowed",
        found={"ratio": found.center},
        allowed={"ratio": FRESH_SHARE},
    )


def _answers(side: SideEvidence) -> Iterator[tuple[tuple, list[list[float]]]]:
    """By group, request and seed: the scores of the tokens that were drawn."""
    for round_, cell in side.sound_cells():
        for turn in cell.turns:
            if turn.fresh_seed is not None and turn.fresh_scores is not None:
                yield (round_.group or "", turn.request, turn.fresh_seed), turn.fresh_scores


def _over_neighbours(cell: Cell) -> Iterator[float]:
    """Log of a drawn turn's time over that of the turns of the same request just before and after it."""
    for request in sorted({turn.request for turn in cell.turns}):
        turns = sorted((t for t in cell.turns if t.request == request and t.replaced_ns is None), key=lambda t: t.lap)
        seconds = [float(np.log(sum(cell.call_ns[t.pass_index][t.request]))) for t in turns]
        for i, turn in enumerate(turns):
            beside = [seconds[j] for j in (i - 1, i + 1) if 0 <= j < len(turns) and _is_own(turns[j])]
            if not _is_own(turn) and beside:
                yield seconds[i] - float(np.mean(beside))


def _is_own(turn: Turn) -> bool:
    return turn.fresh_seed is None
