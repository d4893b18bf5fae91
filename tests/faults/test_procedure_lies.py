"""Backends that know what will be asked, and when: what is timed has not been seen, so knowing does not pay."""

from __future__ import annotations

from functools import lru_cache
from itertools import pairwise

import numpy as np
import pytest

from scorematrix import ScoreRequest, load_backend
from scorematrix.compare import compare_run
from scorematrix.matrix.cells import CellInTurns
from scorematrix.matrix.draft import Draft
from scorematrix.matrix.plan import plan_rounds
from scorematrix.models import Model
from scorematrix.results import Cell, Round, RunStore
from scorematrix.scoring import Backend
from scorematrix.workload import Workload
from scorematrix.workload.fresh import FreshTokens
from tests.factory import changed, make_params, make_run
from tests.faults.lies import LyingBackend
from tests.faults.test_time_lies import ONE, Clock, clock, meter, model, workload

__all__ = ["clock", "model", "workload"]
pytestmark = pytest.mark.usefixtures("quick_collections")
LAPS = 9


def sound_backend(model: Model) -> Backend:
    return load_backend("pytorch", view="portable", model=model, device="cpu", dtype="float32")


def cell_with_drawn_tokens(workload: Workload, backend: Backend) -> Cell:
    """Every third lap has tokens drawn for it, alike for whoever is measured."""
    cell, n = CellInTurns(meter(workload, "pytorch"), backend, 4), len(workload.requests)
    cell.warm_up()
    facts = []
    for lap in range(LAPS):
        for request in range(n):
            cell.turn(lap, request, 1000 * lap + request if lap % 3 == 1 else None)
            facts.append({"place": len(facts)})
    return cell.cell(facts)


def judged(jax: Cell, pytorch: Cell):
    """What a run comes to in whose confirmation rounds these were measured."""
    cells = {"jax": jax, "pytorch": pytorch}

    def edit(round_: Round) -> Round:
        if round_.role != "confirm":
            return round_
        found = cells[round_.backend]
        scale = 1 + round_.index / 1e3
        call_ns = [[[int(ns * scale) for ns in calls] for calls in one_pass] for one_pass in found.call_ns]
        new = {"call_ns": call_ns, "turns": found.turns}
        return changed(round_, group=f"g{round_.index}", cells=[cell.model_copy(update=new) for cell in round_.cells])

    (contrast,) = compare_run(*make_run(make_params(**ONE), edit=edit)).contrasts
    return {gate.name: gate for gate in contrast.gates}


def test_an_honest_side_takes_as_long_for_drawn_tokens(model: Model, workload: Workload, clock: Clock) -> None:
    honest = cell_with_drawn_tokens(workload, LyingBackend(sound_backend(model), clock.taking(30_000_000)))
    assert honest.status == "ok" and honest.pass_deviation < 1e-6
    assert sum(turn.fresh_seed is not None for turn in honest.turns) == 3 * len(workload.requests)
    gates = judged(honest, honest)
    assert gates["drawn tokens"].status == gates["drawn tokens' time jax"].status == "passed"


@pytest.mark.parametrize("key", [lambda r: r, lambda r: tuple(sorted(r.query_ids))], ids=["exact", "sorted tokens"])
def test_what_was_asked_before_is_remembered_in_confirmation_only(
    key, model: Model, workload: Workload, clock: Clock
) -> None:
    """No probe of a tuning round sees it: it is honest there."""
    sound, known = sound_backend(model), {}
    work = clock.taking(30_000_000)

    def remembers(backend: Backend, request: ScoreRequest) -> np.ndarray:
        at = (key(request), request.items_ids)
        if at not in known:
            known[at] = work(backend, request)
        clock.now += 1_000_000
        return known[at].copy()

    cheat = cell_with_drawn_tokens(workload, LyingBackend(sound, remembers))
    honest = cell_with_drawn_tokens(workload, LyingBackend(sound, clock.taking(30_000_000)))
    gates = judged(cheat, honest)
    assert gates["drawn tokens' time jax"].status == "failed" and gates["drawn tokens"].status == "passed"
    assert gates["drawn tokens' time pytorch"].status == "passed"


def test_a_backend_that_knows_the_workload_only_is_seen_by_its_scores(
    model: Model, workload: Workload, clock: Clock
) -> None:
    """Right for what it was told beforehand, quick and wrong for all else."""
    sound = sound_backend(model)
    known = {call for calls in workload.calls(4) for call in calls}

    def guesses(backend: Backend, request: ScoreRequest) -> np.ndarray:
        clock.now += 30_000_000
        scores = backend.score(request)
        return scores if request in known else scores[:, ::-1].copy()

    cheat = cell_with_drawn_tokens(workload, LyingBackend(sound, guesses))
    honest = cell_with_drawn_tokens(workload, LyingBackend(sound, clock.taking(30_000_000)))
    assert judged(cheat, honest)["drawn tokens"].status == "failed"


def test_no_call_is_repeated_within_a_window(model: Model, workload: Workload, clock: Clock) -> None:
    """A cache of one, as people write it every day, around a call that is too short to time alone."""
    sound = sound_backend(model)
    work = clock.taking(200_000)
    asked: list[ScoreRequest] = []

    @lru_cache(maxsize=1)
    def remembered(request: ScoreRequest) -> np.ndarray:
        asked.append(request)
        return work(sound, request)

    cell = cell_with_drawn_tokens(workload, LyingBackend(sound, lambda _, request: remembered(request)))
    assert cell.status == "ok" and cell.repeats > 5
    own = [ns for one_pass in cell.call_ns for calls in one_pass for ns in calls]
    assert min(own) > 190_000, "each call of a window was another one"
    assert all(a != b for a, b in pairwise(asked))


class LateArray(np.ndarray):
    """Computes when it is read."""


def test_an_answer_that_computes_when_it_is_read_is_refused(model: Model, workload: Workload) -> None:
    late = LyingBackend(sound_backend(model), lambda backend, request: backend.score(request).view(LateArray))
    cell = cell_with_drawn_tokens(workload, late)
    assert cell.status == "failed" and "LateArray" in cell.error and "plain numpy.ndarray" in cell.error


def test_what_prepares_is_not_told_what_will_be_timed(workload: Workload, tmp_path) -> None:
    params = make_params()
    planned = next(p for p in plan_rounds(params) if p.role == "confirm")
    told = Draft(RunStore(tmp_path), planned, params, workload)._unseen(4)
    timed = [call for calls in workload.calls(4) for call in calls]
    assert [(len(a.query_ids), [*map(len, a.items_ids)]) for a in told] == [
        (len(b.query_ids), [*map(len, b.items_ids)]) for b in timed
    ]
    assert not {call.query_ids for call in told} & {call.query_ids for call in timed}


def test_drawn_tokens_are_new_and_alike_for_whoever_has_the_seed(workload: Workload) -> None:
    requests = workload.score_requests()
    fresh = FreshTokens(requests)
    one, same, other = (fresh.like(requests[0], seed) for seed in (5, 5, 6))
    assert one == same != other and sorted(one.query_ids) != sorted(requests[0].query_ids)
    assert one.label_ids == requests[0].label_ids and len(one.items_ids) == len(requests[0].items_ids)
