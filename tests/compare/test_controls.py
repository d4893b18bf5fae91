"""A backend against itself, and slowed by 5 %: what the controls say, and what that does to verdicts."""

from __future__ import annotations

import numpy as np
import pytest

from scorematrix.compare import compare_run
from scorematrix.results import Round
from scorematrix.results.cells import Turn
from tests.factory import NOISE, changed, equal_seconds, make_cell, make_params, make_run

ONE = {"comparisons": [{"jax": "cpu", "pytorch": "cpu"}]}
SPREAD = (-1.0, -0.5, 0.0, 0.5, 1.0)


def judged(
    itself: float = 0.0, slowed: float = 1.05, scatter: float = 0.0, effect: float = 1.0, recorded: int = 99, **changes
):
    """The control rounds' times: so far from their twins' (logarithm), so scattered; of so many indices."""

    def edit(round_):
        if round_.role != "control":
            return round_
        twin = equal_seconds(round_.backend, round_.index, 8) * (effect if round_.backend == "jax" else 1.0)
        own = twin * float(np.exp(itself + scatter * SPREAD[round_.index % 5]))
        cells = [make_cell(own, 8), make_cell(own * slowed, 8, slowdown=1.05)]
        return changed(round_, cells=[cell.model_dump() for cell in cells])

    def seconds(backend: str, index: int, chunk: int) -> float:
        return equal_seconds(backend, index, chunk) * (effect if backend == "jax" else 1.0)

    params = make_params(**ONE, **changes)
    return compare_run(*make_run(params, seconds=seconds, edit=edit, keep=lambda p: p.index <= recorded))


def gate_of(comparison, words: str):
    (gate,) = [gate for gate in comparison.contrasts[0].gates if words in gate.name]
    return gate


def test_sound_controls() -> None:
    comparison = judged()
    (control,) = comparison.controls
    assert (control.itself_verdict, control.slowed_verdict) == ("tie", "found")
    assert control.slowed.ratio == pytest.approx(1.05, abs=0.002) and control.margin == 0.03
    assert control.backend == "jax and pytorch" and control.itself.n_rounds == 5, "both sides, pooled"
    assert comparison.contrasts[0].verdict == "tie"


def test_a_difference_from_itself_voids_the_verdict() -> None:
    comparison = judged(itself=0.08, effect=2.0)
    assert gate_of(comparison, "A/A").status == "failed" and comparison.contrasts[0].verdict == "invalid"
    assert "A/A control cpu" in comparison.contrasts[0].reason


@pytest.mark.parametrize("side", ["jax", "pytorch"])
def test_both_sides_are_controlled(side: str) -> None:
    """One side's processes differ from each other; whichever it is, the control scatters with it."""

    def edit(round_: Round) -> Round:
        if (round_.role, round_.backend) != ("control", side):
            return round_
        twin = equal_seconds(side, round_.index, 8) * 1.3
        return changed(round_, cells=[make_cell(twin * s, 8, slowdown=s).model_dump() for s in (1.0, 1.05)])

    comparison = compare_run(*make_run(make_params(**ONE), edit=edit))
    (control,) = comparison.controls
    assert control.itself_verdict != "tie" or control.margin > 0.25


def test_a_slowdown_that_is_not_seen_voids_the_verdict() -> None:
    """The clock does not see what a call costs: a known 5 % is not there."""
    comparison = judged(slowed=1.0, effect=2.0)
    assert gate_of(comparison, "5% control").status == "failed" and comparison.contrasts[0].verdict == "invalid"


@pytest.mark.parametrize(("effect", "verdict"), [(1.0, "not_enough_evidence"), (2.0, "pytorch")])
def test_scatter_against_itself_widens_the_margin_and_forbids_ties(effect: float, verdict: str) -> None:
    comparison = judged(scatter=0.1, effect=effect)
    (contrast,) = comparison.contrasts
    assert gate_of(comparison, "5% control").status == "undecided"
    (control,) = comparison.controls
    assert contrast.margin == max(control.itself.high, 1 / control.itself.low) - 1 > 0.08, "what is not ruled out"
    assert contrast.verdict == verdict
    if effect == 1.0:
        assert contrast.wants_rounds and "5% control" in contrast.reason


def test_a_win_inside_the_widened_margin_is_none() -> None:
    calm, wild = (judged(scatter=scatter, effect=1.06).contrasts[0] for scatter in (0.0, 0.08))
    assert calm.verdict == "pytorch"
    assert wild.verdict == "not_enough_evidence" and wild.effect == calm.effect
    assert wild.next_step and wild.more_rounds, "the margin narrows with the rounds"
    assert f"{wild.margin * 100:.2g}" in wild.reason and "3" in wild.reason


def test_scatter_of_another_view_widens_no_further_than_a_contrasts_own() -> None:
    """The control lives in one view's turns; the other view's pairs agree with each other far better."""

    def edit(round_: Round) -> Round:
        if round_.role not in ("confirm", "control"):
            return round_
        own = 1.0
        if round_.role == "control":
            own = float(np.exp(0.1 * SPREAD[round_.index % 5]))
        elif round_.backend == "jax":
            own = 1 + 0.004 * SPREAD[round_.index % 5]
        cells = []
        for cell in round_.cells:
            call_ns = [[[int(ns * own) for ns in calls] for calls in one_pass] for one_pass in cell.call_ns]
            places = [(lap, q) for lap, one_pass in enumerate(call_ns) for q in range(len(one_pass))]
            turns = [Turn(pass_index=lap, request=q, lap=lap, place=i) for i, (lap, q) in enumerate(places)]
            cells.append(cell.model_copy(update={"call_ns": call_ns, "turns": turns}))
        return changed(round_, group=f"{round_.view}{round_.index}", cells=cells)

    both = [{"backend": name, "views": ["portable", "best_native"]} for name in ("jax", "pytorch")]
    comparison = compare_run(*make_run(make_params(**ONE, backends=both), edit=edit))
    (control,) = comparison.controls
    margins = {contrast.view: contrast.margin for contrast in comparison.contrasts}
    (other,) = margins.keys() - {control.view}
    assert margins[control.view] == control.margin > 0.08 and 0.03 <= margins[other] < 0.04


@pytest.mark.parametrize("rounds", [4, 5])
def test_controls_void_a_run_at_five_rounds_not_before(rounds: int) -> None:
    comparison = judged(itself=0.08, slowed=1.4, rounds=rounds)
    status = {4: "undecided", 5: "failed"}[rounds]
    assert gate_of(comparison, "A/A").status == gate_of(comparison, "5% control").status == status
    assert (comparison.contrasts[0].verdict == "invalid") == (rounds == 5)


def test_controls_void_a_run_at_its_planned_count_only() -> None:
    """Asked after every round, chance would void one run in ten."""
    comparison = judged(itself=0.08, rounds=8, recorded=6)
    assert gate_of(comparison, "A/A").status == "undecided"
    assert comparison.contrasts[0].verdict == "not_enough_evidence" and comparison.contrasts[0].wants_rounds


def test_controls_that_failed_leave_no_verdict() -> None:
    def edit(round_):
        if round_.role != "control":
            return round_
        cells = [make_cell(1.0, 8, status="failed", error="boom", scores=[], call_ns=[]).model_dump()]
        return changed(round_, cells=cells)

    comparison = compare_run(*make_run(make_params(**ONE), seconds=lambda b, i, c: 1.0 + (b == "jax"), edit=edit))
    assert comparison.controls[0].itself_verdict == "not_run"
    assert comparison.contrasts[0].verdict == "not_enough_evidence" and "control" in comparison.contrasts[0].reason


def test_a_control_round_that_was_slowed_for_heat_is_void() -> None:
    """Two of five control rounds ran on a core that was slowed for heat: three are left to judge by."""
    hot = NOISE.model_copy(update={"throttle_events": 1}).model_dump()

    def edit(round_):
        is_hot = round_.role == "control" and round_.index <= 2
        return changed(round_, noise=hot) if is_hot else round_

    (control,) = compare_run(*make_run(make_params(**ONE), edit=edit)).controls
    assert control.itself.n_rounds == control.slowed.n_rounds == 3


def test_a_run_without_controls_says_so() -> None:
    comparison = judged(controls=False)
    assert comparison.controls == [] and any("control" in w for w in comparison.warnings)
    assert not [g for g in comparison.contrasts[0].gates if "control" in g.name]
