"""A time budget is shared so that every pair gets as many turns, whatever its processes take to start."""

from __future__ import annotations

from itertools import pairwise

import pytest

from scorematrix.matrix.budget import Budget
from scorematrix.matrix.plan import plan_groups
from scorematrix.results import Compile, PlannedRound, Round, Setup
from scorematrix.results.cells import Turn
from tests.factory import changed, make_cells, make_params, make_round, make_workload

SECONDS = 310.0
LOADING = {"portable": 3.0, "best_native": 15.0}
AFTER_TUNING = 20.0
"""A tuning round's probes, ceilings and profile."""
COMPILING = 30.0
"""What it compiles is in the cache for the rounds after it."""


def played(group: list[PlannedRound], seconds: float, loading: float, compiling: float = 0.0) -> list[Round]:
    params, turn = make_params(), Turn(pass_index=0, request=0, lap=0, place=0, start_ns=0, raw_ns=1, process_ns=1)
    turn = turn.model_copy(update={"conductor_ns": int(seconds * 1e9)})
    setup = Setup(
        load_model_seconds=loading / 2,
        load_backend_seconds=0,
        prepare_seconds=compiling,
        compiles=[Compile(program="", trace_seconds=0, compile_seconds=compiling, from_cache=False)],
    )
    rounds = []
    for planned in group:
        cells = make_cells(planned, params, lambda *_: 1.0)
        cells = [cell.model_copy(update={"turns": [turn]}) for cell in cells]
        rounds.append(changed(make_round(planned, params, make_workload(), cells), setup=setup))
    return rounds


@pytest.mark.parametrize("guess", [0.5, 1.0, 2.0])
def test_pairs_get_alike_and_the_budget_is_kept(guess: float) -> None:
    """What tuning says of loading may be wrong by a factor of two either way."""
    params = make_params(time_budget_seconds=SECONDS)
    groups = plan_groups(params)
    now = [0.0]
    budget = Budget(params, groups, clock=lambda: now[0])
    shares: dict[tuple[str, int], list[float]] = {}
    for group in groups:
        seconds = budget.share(group)
        assert seconds is not None
        tunes = group[0].role == "tuning"
        start = LOADING.get(group[-1].view, 15.0)
        took = start + seconds + (AFTER_TUNING + COMPILING if tunes else 0.0)
        now[0] += took
        budget.took(group, played(group, seconds, start * guess, COMPILING if tunes else 0.0), took)
        if group[0].role in ("confirm", "control"):
            shares.setdefault((group[-1].view, len(group)), []).append(seconds)
    assert now[0] == pytest.approx(SECONDS, rel=0.1)
    for own in shares.values():
        assert all(1 / 1.6 < b / a < 1.6 for a, b in pairwise(own)), own


def test_without_a_budget_there_is_no_share() -> None:
    params = make_params()
    groups = plan_groups(params)
    assert Budget(params, groups).share(groups[0]) is None
