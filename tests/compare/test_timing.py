"""Conditions on the times themselves: each fault is made, caught and named."""

from __future__ import annotations

import itertools

import pytest

from scorematrix.compare import compare_run
from scorematrix.compare.steady import classify, quarter_medians
from scorematrix.results import GpuNoise, Noise
from tests.factory import (
    NOISE,
    changed,
    equal_seconds,
    make_params,
    make_passes,
    make_probes,
    make_run,
)

ONE = {"comparisons": [{"jax": "cpu", "pytorch": "cpu"}]}
DRIFTS = {
    "steady": [1.5, 1.2, 1.0, 1.0, 1.01, 1.0, 0.99, 1.0],
    "warming": [1.5, 1.4, 1.3, 1.2, 1.1, 1.1, 1.0, 1.0],
    "slowing": [1.0, 1.0, 1.0, 1.0, 1.3, 1.3, 1.3, 1.3],
    "unsteady": [1.0, 1.0, 1.0, 1.0, 1.3, 1.3, 1.0, 1.0],
}


def with_cells(change):
    """Change every cell of JAX's confirmation rounds, and of the controls that repeat them."""

    def edit(round_):
        if round_.backend != "jax" or round_.role == "tuning":
            return round_
        return changed(round_, cells=[cell.model_dump() | change(cell) for cell in round_.cells])

    return edit


def contrast_of(edit=lambda r: r, seconds=equal_seconds, **changes):
    comparison = compare_run(*make_run(make_params(**ONE, **changes), seconds=seconds, edit=edit))
    return comparison.contrasts[0], comparison


def failed(contrast) -> set[str]:
    return {gate.name for gate in contrast.gates if gate.status == "failed"}


CELLS = itertools.count()


def passes_of(factors: list[float], cell) -> list:
    """Passes that take so many times what they are due, each cell a little of its own."""
    own = 1 + 1e-5 * next(CELLS)
    return [make_passes(2.5 * own * factor * cell.slowdown, cell.chunk_size, 1)[0] for factor in factors]


def test_a_clock_that_does_not_see_the_work_is_caught() -> None:
    """A call takes as long whatever is asked: time does not grow with the work."""
    contrast, _ = contrast_of(seconds=lambda b, i, c: equal_seconds(b, i, c) if b != "jax" else 2.0 * 4 / c)
    assert failed(contrast) == {"growth jax"} and contrast.verdict == "invalid"
    assert "1.50" in contrast.reason


def test_a_call_that_is_mostly_overhead_grows_by_little() -> None:
    """Times that grow by what the added work costs at the ceiling, and by no more, are no fault."""

    def seconds(backend: str, index: int, chunk: int) -> float:
        call = 1.2 * (1 if chunk == 8 else 1 - 0.25 * (1 - 1 / 1.5))
        return call * 8 / chunk * equal_seconds(backend, index, 8) / equal_seconds("jax", 0, 8)

    contrast, _ = contrast_of(seconds=seconds)
    (gate,) = [g for g in contrast.gates if g.name == "growth jax"]
    assert gate.found["ceiling_share"] == pytest.approx(0.25, rel=0.02)
    assert gate.status == "passed"
    assert 1.02 < gate.allowed["ratio"] < gate.found["ratio"] < 1.12


def test_a_call_that_is_all_overhead_need_not_grow() -> None:
    """Far from the ceiling the same times are no fault: what a call costs is not its work."""
    contrast, _ = contrast_of(seconds=lambda b, i, c: 40.0 * 4 / c, edit=lambda r: r, margin=0.05)
    (gate,) = [g for g in contrast.gates if g.name == "growth jax"]
    assert gate.status == "passed" and gate.found["ratio"] < gate.allowed["ratio"], "less than is due of others"


@pytest.mark.parametrize(("undisturbed", "bad"), [([], {"growth jax"}), ([4], set())])
def test_small_calls_that_others_slow_are_no_fault(undisturbed: list[int], bad: set[str]) -> None:
    """One round without them tells more than four with: noise adds time and takes none away."""

    def seconds(backend: str, index: int, chunk: int) -> float:
        slowed = backend == "jax" and chunk == 4 and index not in undisturbed
        return equal_seconds(backend, index, chunk) * (3 if slowed else 1)

    contrast, _ = contrast_of(seconds=seconds)
    (gate,) = [g for g in contrast.gates if g.name == "growth jax"]
    assert gate.found["ratio"] < gate.allowed["ratio"] and failed(contrast) == bad


def test_a_query_that_was_asked_before_may_not_be_faster() -> None:
    def edit(round_):
        if (round_.backend, round_.role) != ("jax", "tuning"):
            return round_
        return changed(round_, probes=make_probes(1.0, 8, fresh_ns=make_passes(1.3, 8)).model_dump())

    contrast, _ = contrast_of(edit)
    assert failed(contrast) == {"no caching jax"}
    assert "1.30" in contrast.reason


def test_a_probe_that_broke_leaves_no_verdict() -> None:
    def edit(round_):
        if round_.role != "tuning":
            return round_
        broken = {"fresh_ns": [], "repeat_ns": [], "error": "RuntimeError: boom"}
        return changed(round_, probes=make_probes(1.0, 8, **broken).model_dump())

    contrast, _ = contrast_of(edit, seconds=lambda b, i, c: equal_seconds(b, i, c) * (2 if b == "jax" else 1))
    assert contrast.verdict == "not_enough_evidence" and "boom" in contrast.reason and not contrast.wants_rounds


@pytest.mark.parametrize("kind", DRIFTS)
def test_rounds_are_classed(kind: str) -> None:
    assert classify(quarter_medians(DRIFTS[kind]), 0.03) == kind


@pytest.mark.parametrize("kind", ["warming", "slowing"])
def test_a_side_that_goes_slow_in_the_second_half_is_refused(kind: str) -> None:
    edit = with_cells(lambda c: {"call_ns": passes_of(DRIFTS[kind], c)})
    contrast, comparison = contrast_of(edit)
    assert failed(contrast) == {"steady jax"} and kind in contrast.reason
    assert comparison.sides[0].steadiness == {kind: 5}


@pytest.mark.parametrize(("last", "bad"), [((1.04, 1.05, 1.06, 1.07, 1.08), set()), ((1.1,) * 5, {"steady jax"})])
def test_a_side_is_refused_for_drift_only_if_it_is_sure(last: tuple[float, ...], bad: set[str]) -> None:
    """Over 3 % with 95 % confidence is not enough: each side is asked at each look."""

    def edit(round_):
        factors = [1.0] * 6 + [last[max(round_.index, 1) - 1]] * 2
        return with_cells(lambda c: {"call_ns": passes_of(factors, c)})(round_)

    contrast, _ = contrast_of(edit)
    (gate,) = [g for g in contrast.gates if g.name == "steady jax"]
    assert gate.found["ratio"] > gate.allowed["ratio"] and failed(contrast) == bad


def test_one_round_that_drifts_is_listed_and_no_more() -> None:
    def edit(round_):
        factors = DRIFTS["slowing" if round_.index == 3 else "steady"]
        return with_cells(lambda c: {"call_ns": passes_of(factors, c)})(round_)

    contrast, comparison = contrast_of(edit)
    assert failed(contrast) == set()
    assert comparison.sides[0].steadiness == {"steady": 4, "slowing": 1}


@pytest.mark.parametrize("n_long", [1, 2])
def test_one_long_round_alone_tells_nothing_of_drift(n_long: int) -> None:
    """On a busy machine other rounds may have too few passes: these stand in no verdict's way."""

    def edit(round_):
        factors = DRIFTS["slowing" if round_.index <= n_long else "steady"][: 8 if round_.index <= n_long else 3]
        return with_cells(lambda c: {"call_ns": passes_of(factors, c)})(round_)

    contrast, comparison = contrast_of(edit, seconds=lambda b, i, c: equal_seconds(b, i, c) * (2 if b != "jax" else 1))
    gates = {g.name: g.status for g in contrast.gates}
    assert gates.get("steady jax") == (None if n_long == 1 else "failed")
    assert comparison.sides[0].steadiness == {"slowing": n_long}


def test_a_call_too_short_to_time_makes_its_chunk_size_ineligible() -> None:
    edit = with_cells(lambda c: {"call_ns": [[[900_000]]]} if c.chunk_size == 8 else {})
    contrast, comparison = contrast_of(edit)
    assert contrast.first.chunk == 4
    assert "0.90 ms" in comparison.sides[0].chunks[1].error


def test_a_side_that_was_tuned_over_more_is_refused() -> None:
    backends = [{"backend": "jax", "chunk_sizes": {"portable": [2, 4, 8]}}, {"backend": "pytorch"}]
    contrast, comparison = contrast_of(backends=backends)
    assert failed(contrast) == {"effort"} and all(word in contrast.reason for word in ("jax 3 ", "pytorch 2 "))
    assert [s.tuning_configurations for s in comparison.sides] == [3, 2]


def test_a_round_that_was_slowed_for_heat_is_void_and_listed() -> None:
    def edit(round_):
        hot = Noise(**(NOISE.model_dump() | {"throttle_events": 3}))
        return changed(round_, noise=hot.model_dump()) if (round_.backend, round_.index) == ("jax", 2) else round_

    contrast, comparison = contrast_of(edit, rounds=6)
    assert contrast.effect.n_rounds == 5 and contrast.verdict == "tie"
    (warning,) = [w for w in comparison.warnings if "void" in w and "control" not in w]
    assert warning == "jax.portable.cpu.r02 is void: a core was slowed for heat 3 times"


@pytest.mark.parametrize(
    ("mhz", "verdict"),
    [({"jax": 1900, "pytorch": 1900}, "jax"), ({"jax": 1900, "pytorch": 1600}, "not_enough_evidence"), ({}, "jax")],
)
def test_a_gpu_win_that_is_one_of_clocks_is_none(mhz: dict, verdict: str) -> None:
    """JAX takes 0.87 of the time; with its clock 1.19 times as high it takes more cycles."""

    def edit(round_):
        if round_.backend not in mhz:
            return round_
        gpu = GpuNoise(name="G", driver="1", clock_mhz=[mhz[round_.backend]] * 2)
        return changed(round_, noise=NOISE.model_copy(update={"gpus": [gpu]}).model_dump())

    contrast, _ = contrast_of(edit, seconds=lambda b, i, c: equal_seconds(b, i, c) * (0.87 if b == "jax" else 1.0))
    assert contrast.verdict == verdict
    assert verdict == "jax" or ("clocks" in contrast.reason and "JAX is" not in contrast.sentence)


@pytest.mark.parametrize(
    ("prepare", "seconds", "items"),
    [
        ({"jax": 21.0, "pytorch": 1.0}, {"jax": 1.0, "pytorch": 2.0}, 20 / (1.0 / 16)),
        ({"jax": 1.0, "pytorch": 21.0}, {"jax": 1.0, "pytorch": 2.0}, None),  # ahead from the start, and for ever
        ({"jax": 21.0, "pytorch": 1.0}, {"jax": 2.0, "pytorch": 1.0}, None),  # never
    ],
)
def test_break_even(prepare: dict, seconds: dict, items: float | None) -> None:
    def edit(round_):
        if round_.backend not in prepare:
            return round_
        return changed(round_, setup=round_.setup.model_dump() | {"prepare_seconds": prepare[round_.backend]})

    contrast, _ = contrast_of(edit, seconds=lambda b, i, c: seconds.get(b, 1.0))
    assert contrast.break_even_items == (None if items is None else pytest.approx(items))


def test_cost_needs_a_price_with_source_and_date() -> None:
    price = {"usd_per_hour": 3.6, "source": "a price list", "date": "2026-11-01"}
    _, comparison = contrast_of(seconds=lambda b, i, c: 1.6, prices={"cpu": price})
    assert comparison.sides[0].usd_per_million_items == pytest.approx(0.001 * 0.1 * 1e6)
    assert any("3.6" in w and "a price list" in w and "2026-11-01" in w for w in comparison.warnings)
    for lacking in ("source", "date"):
        with pytest.raises(ValueError, match=f"prices.cpu.{lacking}"):
            make_params(prices={"cpu": {k: v for k, v in price.items() if k != lacking}})
    _, free = contrast_of()
    assert free.sides[0].usd_per_million_items is None


@pytest.mark.parametrize(
    ("waiting", "tuning", "later", "warns"),
    [
        ("spinning", 0.0, 0.2, True),
        ("passive", 0.2, 0.0, True),
        ("spinning", 0.2, 0.2, False),
        ("passive", 0.2, 0.2, False),
        ("passive", 0.0, 0.0, False),
    ],
)
def test_threads_that_wait_as_was_best_on_another_load_are_named(waiting, tuning, later, warns) -> None:
    def edit(round_):
        if round_.backend != "pytorch" or round_.role not in ("tuning", "confirm"):
            return round_
        noise = NOISE.model_copy(update={"others_share": tuning if round_.role == "tuning" else later})
        kept = round_.waiting if round_.role == "tuning" else waiting
        return changed(round_, noise=noise.model_dump(), waiting=kept)

    _, comparison = contrast_of(edit, waiting="tuned")
    assert bool([w for w in comparison.warnings if "tuning chose" in w and waiting in w]) is warns
