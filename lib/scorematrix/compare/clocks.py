"""Check a side's times against a second stopwatch and against the processor time used meanwhile.

The conductor orders each turn from the measuring process and times it too. Before and after the turn it reads the
processor time of every process.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from statistics import median

import numpy as np

from scorematrix.compare.evidence import SideEvidence
from scorematrix.compare.gates import limit_gate
from scorematrix.compare.pairs import pair_ratios
from scorematrix.compare.schema import Gate
from scorematrix.compare.statistics import half_width
from scorematrix.compare.turn_records import calls_ns
from scorematrix.results.cells import Cell
from scorematrix.results.schema import Round

OWN_SHARE, OWN_NS = 0.005, 300_000
"""Two clocks of one process may differ by this share of a turn plus this time, if the cell has at least FEW_TURNS."""
CLOCK_SHARE, CLOCK_NS = 0.02, 5_000_000
"""Limits between two processes, and within one if the cell has fewer turns: a busy machine delays an answer."""
PIPE_TIMES = 4
"""The conductor's clock may also differ by this many times the duration of an empty order."""
FEW_TURNS = 8
"""From this many turns on, the median turn is judged. With fewer, the turn whose clocks agree best."""
BESIDE_SHARE, BESIDE_NS = 0.05, 20_000_000
"""A turn may take this much longer than its calls, to collect garbage and read processor times on a busy machine."""
CORES_SHARE = 1.1
"""Processor time may exceed what the threads can use by this factor, because ticks are coarse."""
SHORT_NS = 100_000_000
"""Processor time is counted in ticks of 10 ms, too coarse for shorter turns."""
INTERFERENCE_CORES = 0.1
"""Other processes may use this many more cores during one side's turns than during the other's."""
LEAST_ROUNDS = 4


@dataclass(frozen=True)
class _Turns:
    """Clock readings of a turn that the conductor timed too: the cell's median turn, because any turn may be delayed.

    Attributes:
        said_ns: timed calls by the clock that figures are taken from, plus untimed calls before them.
        raw_ns: the same calls by the raw clock.
        handled_ns: from the order to its answer, by the raw clock.
        conductor_ns: the same by the conductor's clock.
        n_turns: turns of the cell that the conductor timed.
    """

    said_ns: int
    raw_ns: int
    handled_ns: int
    conductor_ns: int
    pipe_ns: int
    n_turns: int

    @classmethod
    def of(cls, round_: Round, cell: Cell) -> _Turns | None:
        """Return the readings of the turn to judge; None if the conductor timed no turn."""
        timed = [turn for turn in cell.turns if turn.conductor_ns and turn.handled_ns and turn.raw_ns]
        if not timed:
            return None
        readings = [
            cls(
                said_ns=calls_ns(cell, turn) + (turn.untimed_ns or 0),
                raw_ns=(turn.raw_ns or 0) + (turn.untimed_ns or 0),
                handled_ns=turn.handled_ns or 0,
                conductor_ns=turn.conductor_ns or 0,
                pipe_ns=round_.pipe_ns or 0,
                n_turns=len(timed),
            )
            for turn in timed
        ]
        return sorted(readings, key=lambda one: one.excess)[len(readings) // 2 if len(readings) >= FEW_TURNS else 0]

    @property
    def excess(self) -> float:
        """The largest difference over its limit. Above 1, the clocks contradict each other."""
        clock = CLOCK_NS + CLOCK_SHARE * self.conductor_ns
        same_process = OWN_NS + OWN_SHARE * self.conductor_ns if self.n_turns >= FEW_TURNS else clock
        return max(
            abs(self.raw_ns - self.said_ns) / same_process,
            abs(self.conductor_ns - self.handled_ns) / (clock + PIPE_TIMES * self.pipe_ns),
            abs(self.handled_ns - self.raw_ns) / (BESIDE_NS + BESIDE_SHARE * self.handled_ns),
        )

    def __str__(self) -> str:
        said, raw, handled, conductor = (
            f"{ns / 1e6:.4g}" for ns in (self.said_ns, self.raw_ns, self.handled_ns, self.conductor_ns)
        )
        return (
            f"calls: {said} ms by the clock of the figures, {raw} ms by the raw clock; order to answer: {handled} ms "
            f"by the raw clock, {conductor} ms by the conductor's clock"
        )


def clock_gate(side: SideEvidence) -> Gate | None:
    """Check that a process's clocks and the conductor's clock agree. None if the conductor timed no turn."""
    readings = [
        (turns.excess, f"{round_.name} chunk {cell.chunk_size}: {turns}")
        for round_, cell in side.sound_cells()
        if (turns := _Turns.of(round_, cell)) is not None
    ]
    if not readings:
        return None
    excess, detail = max(readings)
    return limit_gate(f"clocks {side.backend}", excess <= 1, detail, "excess", excess, 1.0)


def cores_gate(side: SideEvidence) -> Gate | None:
    """Check that no process used more cores than its record states. None on accelerators and for short turns."""
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
    name, limit = f"threads {side.backend}", CORES_SHARE * allowed
    return limit_gate(name, used <= CORES_SHARE, where, "cores", used * allowed, limit)


def interference_gate(sides: Sequence[SideEvidence]) -> Gate | None:
    """Check that other processes were equally busy during both sides' turns.

    Other processes that are busy only during one side's turns either slow that side or do its work. None without two
    sides on one target and LEAST_ROUNDS rounds of both.
    """
    if len(sides) != 2 or len({side.target for side in sides}) > 1:
        return None
    a, b = sides
    ratios = pair_ratios(a.confirm, a.best_chunk, b.confirm, b.best_chunk) if a.best_chunk and b.best_chunk else {}
    others = [_others(side, [index for index, ratio in ratios.items() if ratio.only_clean]) for side in sides]
    both = sorted(others[0].keys() & others[1].keys())
    if len(both) < LEAST_ROUNDS:
        return None
    apart = [others[0][index] - others[1][index] for index in both]
    center, half = float(np.mean(apart)), half_width(float(np.std(apart, ddof=1)), len(apart))
    means = [float(np.mean([cores[index] for index in both])) for cores in others]
    detail = ", ".join(f"{mean:.2f} cores during {s.backend}'s turns" for s, mean in zip(sides, means, strict=True))
    surely = abs(center) - half > INTERFERENCE_CORES
    detail = f"other processes used {detail}{': they worked for one side or slowed one' if surely else ''}"
    return limit_gate("interference", not surely, detail, "difference", center, INTERFERENCE_CORES)


def _others(side: SideEvidence, clean: Collection[int]) -> dict[int, float]:
    """Return the cores that others used during the chosen chunk size's turns, by index of the confirmation round.

    Every turn counts alike. Weighted by time, a burst of load would count more for the side that it slows more.

    Args:
        clean: indices whose ratio leaves disturbed turns out, as this does.
    """
    cores = {}
    for round_ in side.confirm:
        cell = round_.cell(side.best_chunk) if side.best_chunk is not None else None
        shares = [
            (t.others_ns or 0) / t.conductor_ns
            for t in (cell.turns if cell else [])
            if t.conductor_ns and t.others_ns is not None and t.replaced_ns is None
            if not (t.disturbed and round_.index in clean)
        ]
        if shares and round_.group:
            cores[round_.index] = float(np.mean(shares))
    return cores


def _threads(variable: str | None, cores: int) -> int:
    return min(int(variable), cores) if variable and variable.isdigit() and int(variable) else cores
