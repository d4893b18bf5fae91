"""Whether a side's times agree with a second stopwatch and with the processor time that was used meanwhile.

The process that measures a turn is not the one that hands it out: that one times the turn too, and reads what every
process took of the cores before and after it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

import numpy as np

from scorematrix.compare.evidence import SideEvidence
from scorematrix.compare.gates import gate_status
from scorematrix.compare.schema import Gate
from scorematrix.compare.statistics import Interval, half_width
from scorematrix.results.cells import Cell, Turn
from scorematrix.results.schema import Round

OWN_SHARE, OWN_NS = 0.005, 300_000
"""Two clocks of one process may differ by this share of a turn plus this time, if the cell has FEW_TURNS or more."""
CLOCK_SHARE, CLOCK_NS = 0.02, 5_000_000
"""Otherwise, and between two processes, by these: a busy machine delays an answer."""
PIPE_TIMES = 4
"""The conductor's clock may also differ by this many times the duration of an empty order."""
FEW_TURNS = 8
"""From this many turns on, the median turn is judged. With fewer, the turn whose clocks agree best."""
BESIDE_SHARE, BESIDE_NS = 0.05, 20_000_000
"""What a turn may take beside its calls: a garbage collection, reading processor times, on a busy machine."""
CORES_SHARE = 1.1
"""More processor time than its threads could use: ticks are coarse, so this much is allowed."""
SHORT_NS = 100_000_000
"""In shorter turns processor time, counted in ticks of 10 ms, says little."""
INTERFERENCE_CORES = 0.1
"""Others may take so much more of a core beside one side than beside the other."""
LEAST_ROUNDS = 4


@dataclass(frozen=True)
class _Turns:
    """A turn of a cell that was timed from outside too: the median one, since any may be held up on its way.

    Attributes:
        said_ns: by the clock that figures are taken from.
        raw_ns: the same calls by the raw clock, those before them included.
        handled_ns: from the order to its answer, by the raw clock.
        conductor_ns: the same by the conductor's.
        n_turns: turns of the cell.
    """

    said_ns: int
    raw_ns: int
    handled_ns: int
    conductor_ns: int
    pipe_ns: int
    n_turns: int

    @classmethod
    def of(cls, round_: Round, cell: Cell) -> _Turns | None:
        """None where nobody else looked."""
        told = [turn for turn in cell.turns if turn.conductor_ns and turn.handled_ns and turn.raw_ns]
        if not told:
            return None
        found = [
            cls(
                said_ns=_said(cell, turn) + (turn.untimed_ns or 0),
                raw_ns=(turn.raw_ns or 0) + (turn.untimed_ns or 0),
                handled_ns=turn.handled_ns or 0,
                conductor_ns=turn.conductor_ns or 0,
                pipe_ns=round_.pipe_ns or 0,
                n_turns=len(told),
            )
            for turn in told
        ]
        return sorted(found, key=lambda one: one.excess)[len(found) // 2 if len(found) >= FEW_TURNS else 0]

    @property
    def excess(self) -> float:
        """The largest difference over what is allowed: above 1 the clocks contradict each other."""
        clock = CLOCK_NS + CLOCK_SHARE * self.conductor_ns
        own = OWN_NS + OWN_SHARE * self.conductor_ns if self.n_turns >= FEW_TURNS else clock
        return max(
            abs(self.raw_ns - self.said_ns) / own,
            abs(self.conductor_ns - self.handled_ns) / (clock + PIPE_TIMES * self.pipe_ns),
            abs(self.handled_ns - self.raw_ns) / (BESIDE_NS + BESIDE_SHARE * self.handled_ns),
        )

    def __str__(self) -> str:
        said, raw, handled, conductor = (
            f"{ns / 1e6:.4g}" for ns in (self.said_ns, self.raw_ns, self.handled_ns, self.conductor_ns)
        )
        return (
            f"{said} ms by the clock of its figures, {raw} by the raw clock; from order to answer {handled} by the "
            f"raw clock, {conductor} by the conductor's"
        )


def clock_gate(side: SideEvidence) -> Gate | None:
    """A process's clocks, and the conductor's, say the same of a turn. None: no turn was timed from outside."""
    found = [
        (turns.excess, f"{round_.name} chunk {cell.chunk_size}: {turns}")
        for round_, cell in side.sound_cells()
        if (turns := _Turns.of(round_, cell)) is not None
    ]
    if not found:
        return None
    excess, detail = max(found)
    name, status = f"clocks {side.backend}", gate_status(excess <= 1)
    return Gate(name=name, status=status, detail=detail, found={"excess": excess}, allowed={"excess": 1.0})


def cores_gate(side: SideEvidence) -> Gate | None:
    """No process used more cores than its record says that it has. None on accelerators and for short turns."""
    if side.target != "cpu":
        return None
    used, where, allowed = -1.0, "", 0.0
    for round_, cell in side.sound_cells():
        if not (environment := round_.environment):
            continue
        seen = [
            turn.process_ns / turn.conductor_ns
            for turn in cell.turns
            if turn.process_ns is not None and turn.conductor_ns and turn.conductor_ns >= SHORT_NS
        ]
        threads = _threads(environment.variables.get("OMP_NUM_THREADS"), len(environment.affinity))
        if seen and median(seen) / threads > used:
            used, allowed = median(seen) / threads, float(threads)
            where = f"{round_.name} chunk {cell.chunk_size}: {median(seen):.2f} cores used, {threads} on record"
    if used < 0:
        return None
    return Gate(
        name=f"threads {side.backend}",
        status=gate_status(used <= CORES_SHARE),
        detail=where,
        found={"cores": used * allowed},
        allowed={"cores": CORES_SHARE * allowed},
    )


def interference_gate(sides: Sequence[SideEvidence]) -> Gate | None:
    """Other processes were as busy beside one side as beside the other. None where nobody saw.

    Work of others that falls on one side only is either a neighbour that handicaps it or its own work, done elsewhere.
    """
    if len(sides) != 2 or len({side.target for side in sides}) > 1:
        return None
    beside = [_others(side) for side in sides]
    both = sorted(beside[0].keys() & beside[1].keys())
    if len(both) < LEAST_ROUNDS:
        return None
    apart = [beside[0][index] - beside[1][index] for index in both]
    center, half = float(np.mean(apart)), half_width(float(np.std(apart, ddof=1)), len(apart))
    found = Interval(center, center - half, center + half, len(apart), 0.0)
    means = [float(np.mean([own[index] for index in both])) for own in beside]
    detail = ", ".join(f"{mean:.2f} cores beside {side.backend}" for side, mean in zip(sides, means, strict=True))
    surely = found.low > INTERFERENCE_CORES or found.high < -INTERFERENCE_CORES
    return Gate(
        name="interference",
        status=gate_status(not surely),
        detail=f"other processes took {detail}{': work of one side, or against one' if surely else ''}",
        found={"difference": center},
        allowed={"difference": INTERFERENCE_CORES},
    )


def _others(side: SideEvidence) -> dict[int, float]:
    """Cores that others took during the turns of the chosen chunk size, by index of the confirmation round."""
    found = {}
    for round_ in side.confirm:
        cell = round_.cell(side.best_chunk) if side.best_chunk is not None else None
        turns = [t for t in cell.turns if t.others_ns is not None and t.conductor_ns] if cell else []
        if turns and round_.group:
            others = sum(t.others_ns or 0 for t in turns)
            found[round_.index] = others / sum(t.conductor_ns or 0 for t in turns)
    return found


def _said(cell: Cell, turn: Turn) -> int:
    calls = turn.replaced_ns if turn.replaced_ns is not None else cell.call_ns[turn.pass_index][turn.request]
    return sum(calls) * cell.repeats


def _threads(variable: str | None, cores: int) -> int:
    return min(int(variable), cores) if variable and variable.isdigit() and int(variable) else cores
