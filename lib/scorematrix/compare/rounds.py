"""Select the rounds that count, and compute how long each took."""

from __future__ import annotations

from collections.abc import Iterable
from statistics import median
from typing import TypeGuard

from scorematrix.results.cells import Cell
from scorematrix.results.figures import pass_seconds
from scorematrix.results.schema import Round


def is_sound(cell: Cell | None, round_: Round) -> TypeGuard[Cell]:
    """Return whether a cell's times count: present, status ok, no compile in the window, no hardware slowdown."""
    return cell is not None and cell.status == "ok" and not cell.compiles_in_window and not slowdown_of(round_)


def round_seconds(rounds: Iterable[Round], chunk_size: int, slowdown: float = 1.0) -> dict[int, float]:
    """Return median seconds of a pass by round index; void rounds and rounds without a sound cell are absent."""
    return {
        round_.index: median(pass_seconds(cell.call_ns))
        for round_ in rounds
        if is_sound(cell := round_.cell(chunk_size, slowdown), round_)
    }


def slowdown_of(round_: Round) -> str | None:
    """Return why the hardware lowered its clock during a round, which voids the round (rule 19); None: it did not."""
    if round_.noise is None:
        return None
    reasons = [reason for gpu in round_.noise.gpus for reason in gpu.slowdowns]
    if round_.noise.throttle_events:
        reasons.append(f"a core was slowed for heat {round_.noise.throttle_events} times")
    return ", ".join(reasons) or None
