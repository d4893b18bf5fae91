"""Check that the recorded turns of a group are possible: each pass once, one turn after the other, no time missing."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from itertools import pairwise
from statistics import median

import numpy as np

from scorematrix.compare.rounds import is_sound
from scorematrix.results.cells import Cell, Turn, is_disturbed
from scorematrix.results.schema import Round

LEFT_NS, LEFT_SHARE = 10_000_000, 0.02
"""Between a turn's start and the next turn's, the time outside of its calls may differ between two rounds of a group by
this much, plus this share of a turn. On two quiet cores, rounds differ by 4 ms at most."""
FEWEST_TURNS = 8
"""With fewer turns, one busy moment may explain the difference."""
SAME_SHARE, SAME_NS = 0.01, 300_000
"""Two clocks of one process may differ by this share of a turn, plus this time."""
MANY = 0.75
"""This share of the turns must be within the limits: any turn may be delayed between two readings of a clock."""

Taken = tuple[Turn, Cell, Round]


def turn_doubts(rounds: Sequence[Round], disturbed_share: float) -> Iterator[str]:
    """Name what is impossible in the turns of these rounds.

    Args:
        disturbed_share: of the params, see `results.cells.is_disturbed`.
    """
    groups: dict[str, list[Round]] = defaultdict(list)
    for round_ in rounds:
        for cell in round_.cells:
            if cell.status == "ok" and (cell.turns or round_.group):
                yield from _of_cell(round_, cell, disturbed_share)
        if round_.group is not None:
            groups[round_.group].append(round_)
    for group in groups.values():
        yield from _of_group(group)


def _of_cell(round_: Round, cell: Cell, disturbed_share: float) -> Iterator[str]:
    where = f"{round_.name} chunk {cell.chunk_size}"
    kept = sorted((t for t in cell.turns if t.replaced_ns is None), key=lambda t: (t.request, t.lap))
    passes: dict[int, list[int]] = defaultdict(list)
    for turn in kept:
        passes[turn.request].append(turn.pass_index)
    requests = max(map(len, cell.call_ns), default=0)
    if any(passes[request] != list(range(len(cell.call_ns))) for request in range(requests)) or len(passes) > requests:
        yield f"{where}: its turns do not match its {len(cell.call_ns)} passes"
        return
    timed = [t for t in cell.turns if None not in (t.start_ns, t.conductor_ns, t.raw_ns)]
    if round_.group and len(timed) < len(cell.turns):
        yield f"{where}: the conductor did not time {len(cell.turns) - len(timed)} of its turns"
    apart = [abs((t.raw_ns or 0) - calls_ns(cell, t)) / (SAME_NS + SAME_SHARE * (t.raw_ns or 0)) for t in timed]
    if len(apart) >= FEWEST_TURNS and (many := float(np.quantile(apart, MANY))) > 1:
        yield f"{where}: two clocks of its process differ by {many:.1f} times what is allowed in many turns"
    wrong = [
        turn.place
        for turn in timed
        if turn.others_ns is not None
        if turn.disturbed != is_disturbed(turn.others_ns, turn.stolen_ns or 0, turn.conductor_ns or 0, disturbed_share)
    ]
    if wrong:
        yield f"{where}: the disturbed mark of turn {wrong[0]} contradicts the processor time of others"


def calls_ns(cell: Cell, turn: Turn) -> int:
    """Return the nanoseconds of a turn's calls, as recorded for the figures."""
    calls = turn.replaced_ns if turn.replaced_ns is not None else cell.call_ns[turn.pass_index][turn.request]
    return sum(calls) * cell.repeats


def _of_group(group: Sequence[Round]) -> Iterator[str]:
    names = " and ".join(r.name for r in group[:2])
    if len({(r.index, r.target) for r in group}) > 1:
        yield f"{names} are in one group, but differ in index or target"
    taken = [(turn, cell, r) for r in group for cell in r.cells for turn in cell.turns if turn.conductor_ns is not None]
    taken.sort(key=lambda one: one[0].place)
    for (turn, _, first), (after, _, second) in pairwise(taken):
        waits_from = (after.start_ns or 0) - (after.rest_ns or 0)
        if after.place == turn.place or waits_from < (turn.start_ns or 0) + (turn.conductor_ns or 0):
            yield f"turn {after.place} of {second.name} begins before turn {turn.place} of {first.name} has ended"
            return
    if any(len(seeds) > 1 for seeds in _seeds(taken).values()):
        yield f"turns of one request in {names} have different drawn tokens"
    if taken:
        end_ns = (taken[-1][0].start_ns or 0) + (taken[-1][0].conductor_ns or 0)
        for r in group:
            if r.seconds is not None and end_ns / 1e9 > r.seconds + 2:
                yield f"the turns of {r.name}'s group take {end_ns / 1e9:.0f} s, but the round took {r.seconds:.0f} s"
    yield from _missing_time(taken)
    yield from _missing_laps(taken)


def _seeds(taken: Sequence[Taken]) -> dict[tuple[int, int], set[int | None]]:
    seeds: dict[tuple[int, int], set[int | None]] = defaultdict(set)
    for turn, _, _ in taken:
        if turn.replaced_ns is None:
            seeds[turn.lap, turn.request].add(turn.fresh_seed)
    return seeds


def _missing_time(taken: Sequence[Taken]) -> Iterator[str]:
    """Name a round whose turns leave more time outside of their calls than another round's.

    Disturbed turns are left out: other processes delay them.
    """
    left: dict[str, list[int]] = defaultdict(list)
    lengths: dict[str, list[int]] = defaultdict(list)
    for (turn, cell, r), (after, _, _) in pairwise(taken):
        if after.place == turn.place + 1 and is_sound(cell, r) and not turn.disturbed:
            until_next = (after.start_ns or 0) - (after.rest_ns or 0) - (turn.start_ns or 0)
            left[r.name].append(until_next - calls_ns(cell, turn) - (turn.untimed_ns or 0))
            lengths[r.name].append(until_next)
    left = {name: ns for name, ns in left.items() if len(ns) >= FEWEST_TURNS}
    if len(left) < 2:
        return
    least = min(median(ns) for ns in left.values())
    for name, ns in left.items():
        many = float(np.quantile(ns, MANY))
        if many - least > LEFT_NS + LEFT_SHARE * median(lengths[name]):
            yield (
                f"{name}: {many / 1e6:.4g} ms of a turn are outside of its calls, {least / 1e6:.4g} ms in another "
                "round of its group"
            )


def _missing_laps(taken: Sequence[Taken]) -> Iterator[str]:
    """Name a cell without a turn that another one took.

    Cells with drawn tokens are of one block, so they share all laps from the one before the first drawn tokens on.
    """
    turns: dict[tuple[str, int, float], set[tuple[int, int]]] = defaultdict(set)
    drawn: set[tuple[str, int, float]] = set()
    first = min((turn.lap for turn, _, _ in taken if turn.fresh_seed is not None), default=0) - 1
    for turn, cell, r in taken:
        key = r.name, cell.chunk_size, cell.slowdown
        if turn.fresh_seed is not None and cell.status == "ok":
            drawn.add(key)
        if turn.lap >= first:
            turns[key].add((turn.lap, turn.request))
    every = set().union(*(turns[key] for key in drawn))
    for key in sorted(drawn):
        if missing := every - turns[key]:
            lap, request = min(missing)
            yield f"{key[0]} chunk {key[1]}: request {request} has no turn in lap {lap}"
            return
