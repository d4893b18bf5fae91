"""Check that the recorded rounds are plausible: measured one after the other, by the same software, no two alike."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Iterator, Sequence
from datetime import datetime
from itertools import combinations

from scorematrix.compare.evidence import SideEvidence
from scorematrix.compare.gates import gate_status
from scorematrix.compare.schema import Gate
from scorematrix.compare.turn_records import turn_doubts
from scorematrix.results.schema import SERVER_VIEW, SIDES, Environment, Round

STAMP_SECONDS = 2.0
"""Tolerance of round times: stamps are rounded to seconds, and writing a round's record may take the last one."""
FEWEST_SAMPLES = 4
"""With fewer calls, equal times may be chance."""
AGAIN_SHARE = 0.2
"""Selective repeats allowed, as a share of a side's confirmation rounds (but always one)."""
ALIKE: dict[str, Callable[[Environment], object]] = {
    "operating system": lambda e: e.platform,
    "Python": lambda e: e.python,
    "threads": lambda e: (len(e.affinity), e.variables.get("OMP_NUM_THREADS")),
}
"""Must be equal in all confirmation rounds of a contrast on one target."""
ALIKE_WITHIN: dict[str, Callable[[Round], object]] = {
    "packages": lambda r: sorted(r.environment.packages.items()) if r.environment else None,
    "variables": lambda r: sorted(r.environment.variables.items()) if r.environment else None,
    "settings": lambda r: sorted((k, str(v)) for k, v in r.record.settings.items()) if r.record else None,
    "fallbacks": lambda r: r.record.fallbacks if r.record else None,
}
"""Must be equal in all confirmation rounds of a side."""


def records_gate(sides: Sequence[SideEvidence], beside: Sequence[Round], disturbed_share: float) -> Gate:
    """Require that the rounds of a contrast are consistent, each internally and with each other.

    Args:
        beside: other rounds that may have taken turns with them: baselines and controls.
        disturbed_share: of the params.
    """
    rounds = [r for side in sides for r in side.rounds if r.error is None]
    if not rounds:
        return Gate(name="records", status="not_run", detail="no round is recorded yet")
    groups = {r.group for r in rounds if r.group}
    together = [*_rounds(sides), *(r for r in beside if r.group in groups or r.role == "control")]
    doubts = [doubt for check in (_strangers, _changed, _chosen) for doubt in check(sides)]
    doubts += _undrawn(sides, {r.group for r in together if r.reuses_prefix})
    doubts = [*_twice(together), *_longer(together), *doubts, *turn_doubts(together, disturbed_share)]
    sound = f"{len(rounds)} rounds: no two alike, none shorter than its calls, all by the same software"
    detail = f"{doubts[0]}{f', and {len(doubts) - 1} more' if len(doubts) > 1 else ''}" if doubts else sound
    return Gate(name="records", status=gate_status(not doubts), detail=detail)


def _rounds(sides: Sequence[SideEvidence]) -> list[Round]:
    return [r for side in sides for r in side.rounds]


def _twice(rounds: Sequence[Round]) -> Iterator[str]:
    """Name rounds with equal times: no machine measures the same nanoseconds twice."""
    known: dict[tuple, str] = {}
    for round_ in rounds:
        for cell in round_.cells:
            samples = tuple(ns for one_pass in cell.call_ns for calls in one_pass for ns in calls)
            if len(samples) < FEWEST_SAMPLES or len(set(samples)) < FEWEST_SAMPLES:
                continue
            if (other := known.setdefault(samples, round_.name)) != round_.name:
                yield f"{round_.name} and {other} have the same times at chunk {cell.chunk_size}"


def overlapping(rounds: Sequence[Round]) -> list[str]:
    """Name pairs that overlap on one machine outside of turns: rounds ran at once, or its wall clock was set."""
    by_machine: dict[str, list[Round]] = defaultdict(list)
    for round_ in rounds:
        if round_.environment and not round_.lost:
            by_machine[round_.environment.machine_sha256].append(round_)
    return [
        f"{a.name} and {b.name}"
        for of_machine in by_machine.values()
        for a, b in combinations(of_machine, 2)
        if a.group is None or a.group != b.group
        if min(_span(a)[1], _span(b)[1]) - max(_span(a)[0], _span(b)[0]) > STAMP_SECONDS
    ]


def _span(round_: Round) -> tuple[float, float]:
    end = datetime.fromisoformat(round_.finished_utc).timestamp()
    return end - round_.taken_seconds, end


def _chosen(sides: Sequence[SideEvidence]) -> Iterator[str]:
    """Report repeats that may have selected results: of sound rounds, or of rounds that failed more than others.

    If every round failed once and was measured again, nothing was selected. Unfinished tries do not count: a run that
    stops in the middle of a group repeats the group.
    """
    for side in sides:
        allowed = max(1, int(AGAIN_SHARE * len(side.confirm)))
        sound = sum(one.outcome == "sound" for r in side.confirm for one in r.tries)
        failed = [sum(one.outcome in ("failed", "crashed") for one in r.tries) for r in side.confirm]
        uneven = sum(failed) - len(failed) * min(failed, default=0)
        for what, again in (("sound", sound), ("failed", uneven)):
            if again > allowed:
                yield (
                    f"{again} {what} rounds of {side.backend} {side.view} were measured again, more than {allowed} of "
                    f"{len(side.confirm)}: the kept rounds may be a selection"
                )


def measured_again(rounds: Sequence[Round]) -> dict[tuple[str, str, str], list[str]]:
    """List the rounds with earlier tries and the outcomes of those tries, by backend, view and target."""
    repeats: dict[tuple[str, str, str], list[str]] = defaultdict(list)
    for r in rounds:
        if r.tries:
            outcomes = ", ".join(one.outcome for one in r.tries)
            repeats[r.backend, r.view, r.target].append(f"{r.name} (before: {outcomes})")
    return repeats


def _longer(rounds: Sequence[Round]) -> Iterator[str]:
    """Name rounds whose calls together took longer than the round."""
    for round_ in rounds:
        call_ns = sum(
            ns * cell.repeats
            for cell in round_.cells
            for one_pass in [*cell.warmup_ns, *cell.call_ns]
            for calls in one_pass
            for ns in calls
        )
        if round_.seconds is not None and call_ns / 1e9 > round_.seconds + STAMP_SECONDS:
            yield f"the calls of {round_.name} take {call_ns / 1e9:.0f} s, but the round took {round_.seconds:.0f} s"


def _strangers(sides: Sequence[SideEvidence]) -> Iterator[str]:
    """Name rounds by a framework other than the backend's; backends outside SIDES declare their framework."""
    for side in sides:
        expected = SIDES.get(side.backend)
        for round_ in side.rounds if expected else ():
            if round_.record and round_.record.framework != expected:
                yield f"{round_.name} was computed by {round_.record.framework}, {side.backend} is {expected}"


def _changed(sides: Sequence[SideEvidence]) -> Iterator[str]:
    for target in {side.target for side in sides}:
        for what, of in ALIKE.items():
            known = [(r, r.environment) for s in sides if s.target == target for r in s.confirm]
            yield from _several(what, {str(of(e)): r.name for r, e in known if e})
    for side in sides:
        for what, read in ALIKE_WITHIN.items():
            if side.view == SERVER_VIEW and what == "settings":  # a server has a new address in every round
                continue
            yield from _several(what, {str(read(r)): r.name for r in side.confirm if read(r) is not None})


def _undrawn(sides: Sequence[SideEvidence], reusing: Collection[str | None]) -> Iterator[str]:
    """Name confirmation rounds that drew no tokens, although the reference has scored tokens for them.

    Args:
        reusing: groups with a round that keeps queries between calls. Drawn tokens would evict its query, so the group
            draws none.
    """
    for side in sides:
        expected = {sample.index for sample in side.samples}
        for r in (r for r in side.confirm if r.group not in reusing):
            has_drawn = any(turn.fresh_seed is not None for cell in r.cells for turn in cell.turns)
            is_whole = r.alone_because is None and r.error is None and all(cell.status == "ok" for cell in r.cells)
            if is_whole and r.index in expected and not has_drawn:
                yield f"{r.name} scored no drawn tokens, but the reference did for it"


def _several(what: str, by_value: dict[str, str]) -> Iterator[str]:
    if len(by_value) > 1:
        one, other = list(by_value.values())[:2]
        yield f"{what} differ between {one} and {other}"
