"""Backends that lie about time, measured as a round measures them; each is seen by what is recorded of it."""

from __future__ import annotations

import time

import numpy as np
import psutil
import pytest

from scorematrix import load_backend
from scorematrix.compare import compare_run
from scorematrix.matrix.cells import CellInTurns
from scorematrix.matrix.meter import Meter
from scorematrix.matrix.turns import SLOWDOWN
from scorematrix.measure import Watchdog
from scorematrix.measure.memory import HostMemory
from scorematrix.models import Model, load_model
from scorematrix.results import Cell
from scorematrix.scoring import Backend
from scorematrix.scoring.compiles import compile_counter
from scorematrix.workload import Workload, WorkloadRequest
from tests.factory import changed, make_params, make_run
from tests.faults.lies import LyingBackend, leaks, remembering

pytestmark = pytest.mark.usefixtures("quick_collections")
ONE = {"comparisons": [{"jax": "cpu", "pytorch": "cpu"}]}


@pytest.fixture(scope="module")
def model() -> Model:
    return load_model("random:tiny-llama", seed=11)


@pytest.fixture(scope="module")
def workload() -> Workload:
    rng = np.random.default_rng(2)
    requests = [
        WorkloadRequest(
            id=f"q{q}", query_ids=rng.integers(0, 250, 40).tolist(), label_ids=[100, 200],
            items_ids=[rng.integers(1, 250, n).tolist() for n in (3, 5, 4, 6)],
        )
        for q in range(2)
    ]  # fmt: skip
    return Workload(name="w", origin="tests", apply_softmax=True, tokenizer_sha256=None, requests=requests)


def meter(workload: Workload, framework: str) -> Meter:
    watchdog = Watchdog(60, lambda: None)
    return Meter(workload, 1, watchdog, HostMemory(), compile_counter(framework), [psutil.Process()])


def cell_of(meter: Meter, backend: Backend, slowdown: float = 1.0, passes: int = 2) -> Cell:
    """A cell of chunk size 4, its turns one after the other."""
    cell, n_requests = CellInTurns(meter, backend, 4, slowdown), len(meter.workload.requests)
    cell.warm_up()
    places = range(passes * n_requests)
    for place in places:
        cell.turn(*divmod(place, n_requests))
    return cell.cell([{"place": place} for place in places])


def recompiling(framework: str):
    """Every third call makes a program anew, and says nothing of it."""
    calls = 0

    def compile_something() -> None:
        n = calls
        if framework == "jax":
            import jax

            jax.jit(lambda x: x * n + n)(np.ones(3, np.float32)).block_until_ready()
        else:
            import torch

            torch._dynamo.reset()
            torch.compile(lambda x: x * n + n, backend="eager")(torch.ones(3))

    def answer(sound, request):
        nonlocal calls
        calls += 1
        if calls % 3 == 0:
            compile_something()
        return sound.score(request)

    return answer


@pytest.mark.parametrize("framework", ["jax", "pytorch"])
def test_a_recompile_in_every_third_call_is_seen(framework: str, model: Model, workload: Workload) -> None:
    sound = load_backend(framework, view="portable", model=model, device="cpu", dtype="float32")
    quiet = cell_of(meter(workload, framework), sound)
    assert quiet.status == "ok" and quiet.compiles_in_window == 0
    loud = cell_of(meter(workload, framework), LyingBackend(sound, recompiling(framework)))
    assert loud.compiles_in_window >= 1 and loud.scores == quiet.scores
    contrast = judged_with(cells={"compiles_in_window": loud.compiles_in_window})
    assert contrast.verdict == "invalid" and "compiles while timed" in contrast.reason


class Clock:
    """Stands for `time.perf_counter_ns`: on it a reading takes a microsecond, and a call what `taking` says."""

    def __init__(self) -> None:
        self.now = 0

    def __call__(self) -> int:
        self.now += 1_000
        return self.now

    def taking(self, ns: int):
        def answer(sound, request):
            self.now += ns
            return sound.score(request)

        return answer


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(time, "perf_counter_ns", clock)
    return clock


def test_scores_kept_by_query_are_seen_by_new_queries(model: Model, workload: Workload, clock: Clock) -> None:
    sound = load_backend("pytorch", view="portable", model=model, device="cpu", dtype="float32")
    slow = clock.taking(2_000_000)
    caching = LyingBackend(LyingBackend(sound, slow), remembering(100))
    honest = meter(workload, "pytorch").probes(LyingBackend(sound, slow), 4, caching=True)
    kept = meter(workload, "pytorch").probes(caching, 4, caching=True)
    contrast = judged_with(probes=kept.model_dump() | {"neighbours_moved": 0.0})
    assert contrast.verdict == "invalid" and "gate no caching jax" in contrast.reason
    assert "gate no caching" not in judged_with(probes=honest.model_dump()).reason


def test_leaking_neighbours_are_seen_by_the_probe(model: Model, workload: Workload) -> None:
    sound = load_backend("pytorch", view="portable", model=model, device="cpu", dtype="float32")
    assert meter(workload, "pytorch").probes(sound, 4, caching=False).neighbours_moved < 1e-5
    leak = meter(workload, "pytorch").probes(LyingBackend(sound, leaks), 4, caching=False)
    contrast = judged_with(probes=leak.model_dump())
    assert contrast.verdict == "invalid" and "gate isolation jax" in contrast.reason


def test_a_score_that_is_no_number_among_other_neighbours_is_seen(model: Model, workload: Workload) -> None:
    """The timed scores are sound; among other neighbours one is NaN, and no larger number hides it."""
    sound = load_backend("pytorch", view="portable", model=model, device="cpu", dtype="float32")
    first = [call.items_ids for calls in workload.calls(4) for call in calls]

    def breaks(backend, request):
        scores = backend.score(request)
        if request.items_ids not in first:
            scores[-1, 0] = np.nan
        return scores

    found = meter(workload, "pytorch").probes(LyingBackend(sound, breaks), 4, caching=False)
    contrast = judged_with(probes=found.model_dump())
    assert np.isnan(found.neighbours_moved) and "gate isolation jax" in contrast.reason


def test_a_probe_that_raises_is_recorded(model: Model, workload: Workload) -> None:
    def breaks(sound, request):
        raise RuntimeError("boom")

    sound = load_backend("pytorch", view="portable", model=model, device="cpu", dtype="float32")
    probes = meter(workload, "pytorch").probes(LyingBackend(sound, breaks), 4, caching=True)
    assert probes.error == "RuntimeError: boom" and not probes.fresh_ns


def test_the_control_is_slowed_by_what_it_says(model: Model, workload: Workload, clock: Clock) -> None:
    sound = load_backend("pytorch", view="portable", model=model, device="cpu", dtype="float32")
    taken = LyingBackend(sound, clock.taking(20_000_000))
    measuring = meter(workload, "pytorch")
    cells = [cell_of(measuring, taken, slowdown) for slowdown in (SLOWDOWN, 1.0)]
    assert [cell.slowdown for cell in cells] == [1.05, 1.0] and cells[0].scores == cells[1].scores
    slowed, plain = (np.median([ns for p in cell.call_ns for q in p for ns in q]) for cell in cells)
    assert slowed / plain == pytest.approx(1.05, abs=1e-3)


def judged_with(cells: dict | None = None, probes: dict | None = None):
    """What a run comes to with this recorded of JAX."""

    def edit(round_):
        if round_.backend != "jax" or round_.role == "reference":
            return round_
        new = {"cells": [cell.model_dump() | (cells or {}) for cell in round_.cells]}
        if probes is not None and round_.role == "tuning":
            new["probes"] = probes
        return changed(round_, **new)

    (contrast,) = compare_run(*make_run(make_params(**ONE), edit=edit)).contrasts
    return contrast
