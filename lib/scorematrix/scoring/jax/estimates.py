"""Read the compiler's estimates for a compiled program: XLA's counts, and the cycles of its operations.

Nothing here is a measurement. The text of a compiled TPU program has `estimated_cycles` for each fusion and copy. Our
kernels have none, and neither do programs for other devices.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from scorematrix.scoring.jax.profiles import part_of

COSTLIEST = 8
UNKNOWN_CYCLES = 1 << 62
"""The TPU compiler writes the largest integer for operations that it has no model of."""
COMPUTATION = re.compile(r"^(ENTRY )?%?([\w.-]+) \(.*\{$")
INSTRUCTION = re.compile(r"^\s+(?:ROOT )?%?([\w.-]+) = ")
CYCLES = re.compile(r'"estimated_cycles":"(\d+)"')
SCOPE = re.compile(r'op_name="([^"]*)"')
LOOP = re.compile(r" while\(.*condition=%?([\w.-]+), body=%?([\w.-]+)")
TRIPS = re.compile(r'known_trip_count":\{"n":"(\d+)"')
CALL = re.compile(r" call\(.*to_apply=%?([\w.-]+)")
KERNEL = 'custom_call_target="tpu_custom_call"'


class Operation(NamedTuple):
    """One instruction of a compiled program.

    Attributes:
        operation: the end of its scope path, which shows where it came from.
        part: one of `scoring.profiles`.
        runs: number of runs in one call of the program; a loop's body runs once per trip.
        cycles: the compiler's estimate for one run; None if it has none.
    """

    name: str
    operation: str
    part: str
    runs: int
    cycles: int | None


def read_operations(text: str) -> list[Operation]:
    """Return the instructions of a compiled program's HLO text that have an estimate, and kernels that have none."""
    computations, entry = _computations(text)
    operations = []
    for line, runs in _walk(computations, entry, 1):
        cycles = CYCLES.search(line)
        known = int(cycles[1]) if cycles and int(cycles[1]) < UNKNOWN_CYCLES else None
        if (known is None and KERNEL not in line) or (name := INSTRUCTION.match(line)) is None:
            continue
        scope = scope_match[1] if (scope_match := SCOPE.search(line)) else ""
        operations.append(Operation(name[1], "/".join(scope.split("/")[-2:]), part_of(scope), runs, known))
    return operations


def loop_trips(text: str) -> list[int]:
    """Return the trip count of each loop of a compiled program, per entry into the loop."""
    computations, _ = _computations(text)
    loops = ((line, loop[1]) for lines in computations.values() for line in lines if (loop := LOOP.search(line)))
    return [_trips(line, computations.get(condition, [])) for line, condition in loops]


def estimate(programs: Sequence[tuple[Any, int]]) -> dict[str, Any]:
    """Combine the compiler's estimates for the programs of one call, in the form of `results.CompilerEstimate`.

    Args:
        programs: compiled programs, each with the number of times that the call runs it.
    """
    counts: Counter[str] = Counter()
    optimal: list[float] = []
    operations: list[Operation] = []
    trips: list[int] = []
    for program, runs in programs:
        analysis, text = _analysis(program), program.as_text() or ""
        counts.update({key: runs * analysis.get(key, 0.0) for key in ("flops", "bytes accessed")})
        optimal.append(runs * analysis.get("optimal_seconds", 0.0))
        operations += [op._replace(runs=runs * op.runs) for op in read_operations(text)]
        trips += loop_trips(text)
    without_cycles = sorted({op.name.rpartition(".")[0] or op.name for op in operations if op.cycles is None})
    costed = sorted((op for op in operations if op.cycles), key=lambda op: op.runs * (op.cycles or 0), reverse=True)
    return {
        "flops": counts["flops"] or None,
        "bytes_accessed": counts["bytes accessed"] or None,
        "loop_trips": max(trips, default=None),
        # XLA subtracts seconds for each of our kernels, because it does not know their time: the rest is meaningless.
        "optimal_seconds": sum(optimal) if not without_cycles and all(seconds > 0 for seconds in optimal) else None,
        "cycles": sum(op.runs * (op.cycles or 0) for op in costed) or None,
        "costliest": [op._asdict() for op in costed[:COSTLIEST]],
        "without_cycles": without_cycles,
    }


def _analysis(program: Any) -> Mapping[str, float]:
    analysis = program.cost_analysis()
    return (analysis[0] if analysis else {}) if isinstance(analysis, list) else analysis or {}


def _computations(text: str) -> tuple[dict[str, list[str]], str]:
    """Return the lines of each computation by its name, and the name of the program's entry computation."""
    computations: dict[str, list[str]] = {}
    entry, lines = "", []
    for line in text.splitlines():
        if head := COMPUTATION.match(line):
            lines = computations.setdefault(head[2], [])
            entry = head[2] if head[1] else entry
        else:
            lines.append(line)
    return computations, entry


def _walk(computations: Mapping[str, list[str]], name: str, runs: int) -> Iterator[tuple[str, int]]:
    """Yield each instruction's line with the number of times that a call runs it."""
    for line in computations.get(name, []):
        yield line, runs
        if loop := LOOP.search(line):
            yield from _walk(computations, loop[2], runs * _trips(line, computations.get(loop[1], [])))
        elif called := CALL.search(line):
            yield from _walk(computations, called[1], runs)


def _trips(line: str, condition: list[str]) -> int:
    """Return a loop's trip count: the compiler's, else the only constant that its counter is compared with, else 1."""
    if known := TRIPS.search(line):
        return int(known[1])
    bounds = [bound for each in condition if (bound := re.search(r"= s32\[\].* constant\((\d+)\)", each))]
    return int(bounds[0][1]) if len(bounds) == 1 and any("direction=LT" in each for each in condition) else 1
