"""A second stopwatch, and processor time beside it: times that do not add up are refused, honest noise is not."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from scorematrix.compare import compare_run
from scorematrix.results import Round
from scorematrix.results.cells import Turn, is_disturbed
from tests.factory import changed, make_params, make_run

ONE = {"comparisons": [{"jax": "cpu", "pytorch": "cpu"}]}
MS = 1_000_000
Told = Callable[[dict[str, int]], dict[str, int]]
"""What is recorded of one turn, changed: nanoseconds by their names in `Turn`."""


def _longer(known: dict[str, int], ns: int) -> dict[str, int]:
    return {name: known[name] + ns for name in ("handled_ns", "conductor_ns")}


def judged(told: Told, sides: tuple[str, ...] = ("jax",), group: str | None = "g", **of_round: object):
    """What a run comes to whose turns are as they are measured, but for what is told of these sides."""
    rng = np.random.default_rng(3)

    def edit(round_: Round) -> Round:
        if round_.role not in ("confirm", "tuning"):
            return round_
        cells, start_ns, place = [], round_.position * 10**13, round_.position * 1000
        for cell in round_.cells:
            turns = []
            for lap, passes in enumerate(cell.call_ns):
                for request, calls in enumerate(passes):
                    said = sum(calls) * cell.repeats
                    raw = int(said * (1 + rng.normal(0, 1e-4))) + 60_000
                    known = {
                        "raw_ns": raw,
                        "handled_ns": (handled := raw + int(rng.exponential(3 * MS))),
                        "conductor_ns": handled + int(rng.exponential(0.3 * MS)),
                        "process_ns": int(1.8 * raw),
                        "others_ns": int(rng.exponential(0.05) * raw),
                    }
                    if round_.backend in sides:
                        known = told(known)
                    marked = is_disturbed(known.get("others_ns", 0), 0, known.get("conductor_ns", 0), 0.05)
                    where = {"place": place, "start_ns": start_ns, "disturbed": marked}
                    turns.append(Turn(pass_index=lap, request=request, lap=lap, **where, **known))
                    place, start_ns = place + 1, start_ns + known.get("conductor_ns", 0) + MS // 2
            cells.append(cell.model_copy(update={"turns": turns}))
        return changed(round_, cells=cells, group=f"{group}{round_.index}" if group else None, **of_round)

    (contrast,) = compare_run(*make_run(make_params(**ONE), edit=edit)).contrasts
    return contrast, {gate.name: gate.status for gate in contrast.gates}


def test_honest_turns_pass_all_of_them() -> None:
    contrast, gates = judged(lambda known: known)
    asked = [name for name in gates if name.split()[0] in ("clocks", "threads", "interference")]
    assert len(asked) == 5 and {gates[name] for name in asked} == {"passed"}
    assert contrast.verdict in ("tie", "not_enough_evidence")


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("the process's clocks run at a tenth", lambda t: t | {"conductor_ns": 10 * t["conductor_ns"]}),
        ("they run a tenth slow", lambda t: t | {"conductor_ns": int(1.1 * t["conductor_ns"])}),
        ("they run fast", lambda t: t | {"conductor_ns": int(0.9 * t["conductor_ns"])}),
        ("the raw clock was not forged too", lambda t: {k: 2 * v for k, v in t.items()}),
        ("half of it is done after the clock was stopped", lambda t: t | _longer(t, t["raw_ns"])),
    ],
)
def test_clocks_that_differ_are_named(name: str, told: Told) -> None:
    contrast, gates = judged(told)
    assert gates["clocks jax"] == "failed" and gates["clocks pytorch"] == "passed", name
    assert contrast.verdict == "invalid" and "gate clocks jax" in contrast.reason


def test_a_turn_that_was_held_up_now_and_then_is_no_forgery() -> None:
    count = iter(range(10**6))

    def held_up(known: dict[str, int]) -> dict[str, int]:
        return known | {"conductor_ns": known["conductor_ns"] * (3 if next(count) % 4 == 0 else 1)}

    assert judged(held_up)[1]["clocks jax"] == "passed"


def test_more_cores_than_on_record_are_named() -> None:
    contrast, gates = judged(lambda t: t | {"process_ns": int(3.5 * t["raw_ns"])})
    assert gates["threads jax"] == "failed" and "2 on record" in contrast.reason


def test_work_that_falls_beside_one_side_only_is_named() -> None:
    busy = lambda t: t | {"others_ns": int(0.9 * t["raw_ns"])}  # noqa: E731
    contrast, gates = judged(busy)
    assert gates["interference"] == "failed" and contrast.verdict == "invalid"
    assert judged(busy, sides=("jax", "pytorch"))[1]["interference"] == "passed", "a neighbour of both"


def test_bursts_that_last_longer_in_the_turns_of_one_side_are_no_help() -> None:
    """A core is busy in a few turns of each, and makes one side's five times as long. Their ratios leave them out."""
    count = iter(range(10**6))

    def hit(known: dict[str, int]) -> dict[str, int]:
        if next(count) % 5:
            return known
        return {name: 5 * ns for name, ns in known.items()} | {"others_ns": 5 * known["raw_ns"]}

    assert judged(hit)[1]["interference"] == "passed"


def test_rounds_that_nobody_conducted_are_not_asked() -> None:
    _, gates = judged(lambda _: {}, sides=("jax", "pytorch"), group=None)
    assert not [name for name in gates if name.split()[0] in ("clocks", "threads", "interference")]
