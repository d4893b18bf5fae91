"""What a compiler estimates of a program that it made: XLA's counts, and the cycles it gives its operations.

Nothing here is a measurement. The text of a compiled TPU program carries `estimated_cycles` for each fusion and copy;
kernels of our own carry none, nor do programs for other devices.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from scorematrix.scoring.jax.profiles import part_of

COSTLIEST = 8
UNKNOWN_CYCLES = 1 << 62
"""The TPU's compiler writes the largest integer for what it has no model of."""
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
        operation: the end of its path of scopes: what it came from.
        part: of `scoring.profiles`.
        runs: in one call of the program, a loop's body by the loop's trips.
        cycles: of one run, by the compiler; None: it has no estimate.
    """

    name: str
    operation: str
    part: str
    runs: int
    cycles: int | None


def read_operations(text: str) -> list[Operation]:
    """The instructions of a compiled program's HLO text that the compiler has costed, and kernels that it has not."""
    computations, entry = _computations(text)
    found = []
    for line, runs in _walk(computations, entry, 1):
        cycles = CYCLES.search(line)
        known = int(cycles[1]) if cycles and int(cycles[1]) < UNKNOWN_CYCLES else None
        if (known is None and KERNEL not in line) or (name := INSTRUCTION.match(line)) is None:
            continue
        scope = found_scope[1] if (found_scope := SCOPE.search(line)) else ""
        found.append(Operation(name[1], "/".join(scope.split("/")[-2:]), part_of(scope), runs, known))
    return found


def loop_trips(text: str) -> list[int]:
    """How often each loop of a compiled program runs once it is entered."""
    computations, _ = _computations(text)
    loops = ((line, loop[1]) for lines in computations.values() for line in lines if (loop := LOOP.search(line)))
    return [_trips(line, computations.get(condition, [])) for line, condition in loops]


def estimate(programs: Sequence[tuple[Any, int]]) -> dict[str, Any]:
    """What the compiler says of the programs of one call together, in the form of `results.CompilerEstimate`.

    Args:
        programs: the compiled ones, each with how often the call runs it.
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
        # XLA takes seconds off for each kernel of ours, whose time it does not know: the rest tells nothing.
        "optimal_seconds": sum(optimal) if not without_cycles and all(seconds > 0 for seconds in optimal) else None,
        "cycles": sum(op.runs * (op.cycles or 0) for op in costed) or None,
        "costliest": [op._asdict() for op in costed[:COSTLIEST]],
        "without_cycles": without_cycles,
    }


def _analysis(program: Any) -> Mapping[str, float]:
    found = program.cost_analysis()
    return (found[0] if found else {}) if isinstance(found, list) else found or {}


def _computations(text: str) -> tuple[dict[str, list[str]], str]:
    """The lines of each computation by its name, and the name of the one that a call of the program enters."""
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
    """Each instruction's line, with how often a call runs it."""
    for line in computations.get(name, []):
        yield line, runs
        if loop := LOOP.search(line):
            yield from _walk(computations, loop[2], runs * _trips(line, computations.get(loop[1], [])))
        elif called := CALL.search(line):
            yield from _walk(computations, called[1], runs)


def _trips(line: str, condition: list[str]) -> int:
    """How often a loop runs: as the compiler says, or by the one constant its counter is compared with; else once."""
    if known := TRIPS.search(line):
        return int(known[1])
    bounds = [bound for each in condition if (bound := re.search(r"= s32\[\].* constant\((\d+)\)", each))]
    return int(bounds[0][1]) if len(bounds) == 1 and any("direction=LT" in each for each in condition) else 1
