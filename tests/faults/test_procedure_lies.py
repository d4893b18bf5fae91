"""Backends that know what will be asked, and when: what is timed has not been seen, so knowing does not pay."""

from __future__ import annotations

from functools import lru_cache
from itertools import pairwise

import numpy as np
import pytest

from scorematrix import ScoreRequest, load_backend
from scorematrix.matrix.cells import CellInTurns
from scorematrix.matrix.draft import Draft
from scorematrix.matrix.plan import plan_rounds
from scorematrix.models import Model
from scorematrix.results import Cell, RunStore
from scorematrix.scoring import Backend
from scorematrix.workload import Workload
from scorematrix.workload.fresh import FreshTokens
from tests.factory import make_params
from tests.faults.lies import LyingBackend
from tests.faults.test_time_lies import Clock, clock, meter, model, workload

__all__ = ["clock", "model", "workload"]
pytestmark = pytest.mark.usefixtures("quick_collections")
LAPS = 9


def sound_backend(model: Model) -> Backend:
    return load_backend("pytorch", view="portable", model=model, device="cpu", dtype="float32")


def cell_with_drawn_tokens(workload: Workload, backend: Backend) -> Cell:
    """Every third lap has tokens drawn for it."""
    cell, n = CellInTurns(meter(workload, "pytorch"), backend, 4), len(workload.requests)
    cell.warm_up()
    facts = []
    for lap in range(LAPS):
        for request in range(n):
            cell.turn(lap, request, 1000 * lap + request if lap % 3 == 1 else None)
            facts.append({"place": len(facts)})
    return cell.cell(facts)


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
