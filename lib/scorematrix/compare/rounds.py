"""Which rounds count, and what each took."""

from __future__ import annotations

from collections.abc import Iterable
from statistics import median
from typing import TypeGuard

from scorematrix.results.cells import Cell
from scorematrix.results.figures import pass_seconds
from scorematrix.results.schema import Round


def is_sound(cell: Cell | None, round_: Round) -> TypeGuard[Cell]:
    """Whether a cell's times count: it is there, nothing was compiled meanwhile, the hardware kept its clock."""
    return cell is not None and cell.status == "ok" and not cell.compiles_in_window and not slowdown_of(round_)


def round_seconds(rounds: Iterable[Round], chunk_size: int, slowdown: float = 1.0) -> dict[int, float]:
    """Median seconds of a pass, by index of the round; void rounds and those without a sound cell are absent."""
    return {
        round_.index: median(pass_seconds(cell.call_ns))
        for round_ in rounds
        if is_sound(cell := round_.cell(chunk_size, slowdown), round_)
    }


def slowdown_of(round_: Round) -> str | None:
    """For what the hardware cut its clock while a round measured: such a round is void (rule 19). None: it did not."""
    if round_.noise is None:
        return None
    reasons = [reason for gpu in round_.noise.gpus for reason in gpu.slowdowns]
    if round_.noise.throttle_events:
        reasons.append(f"a core was slowed for heat {round_.noise.throttle_events} times")
    return ", ".join(reasons) or None
