"""Rounds that cannot be what they say: measured twice, in less time than their calls, by other software."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from scorematrix.compare import compare_run
from scorematrix.results import Round, Try
from tests.factory import changed, make_params, make_passes, make_run, stamp

ONE = {"comparisons": [{"jax": "cpu", "pytorch": "cpu"}]}
Edit = Callable[[Round], Round]


def varied(round_: Round) -> Round:
    """With times of its own, as every real round has."""
    cells = []
    for cell in round_.cells:
        seconds = sum(ns for calls in cell.call_ns[0] for ns in calls) / 1e9 * (1 + 1e-4 * (round_.position + 1))
        passes = [make_passes(seconds * (1 + p / 1e3), cell.chunk_size, 1)[0] for p in range(4)]
        cells.append(cell.model_copy(update={"call_ns": passes}))
    return changed(round_, cells=cells)


def judged(edit: Edit):
    comparison = compare_run(*make_run(make_params(**ONE), edit=lambda r: edit(varied(r))))
    (contrast,) = comparison.contrasts
    return comparison, contrast, {gate.name: gate for gate in contrast.gates}


def of(backend: str, index: int, **changes: object) -> Edit:
    return lambda r: changed(r, **changes) if (r.backend, r.index, r.role) == (backend, index, "confirm") else r


def with_environment(**changes: object) -> Edit:
    return lambda r: of("jax", 3, environment=r.environment.model_copy(update=changes))(r)


def test_honest_rounds_pass() -> None:
    comparison, contrast, gates = judged(lambda r: r)
    assert gates["records"].status == "passed" and contrast.verdict == "tie"
    assert not any("overlap" in w or "merged" in w for w in comparison.warnings)


def test_one_round_under_two_indices_is_named() -> None:
    kept: list[Round] = []

    def copied(round_: Round) -> Round:
        if (round_.backend, round_.role) != ("jax", "confirm"):
            return round_
        kept.append(round_)
        return changed(round_, cells=kept[0].cells)

    _, contrast, gates = judged(copied)
    assert gates["records"].status == "failed" and kept[0].name in gates["records"].detail
    assert contrast.verdict == "invalid"


@pytest.mark.parametrize(
    ("word", "edit"),
    [
        ("packages", with_environment(packages={"jax": "0.1"})),
        ("variables", with_environment(variables={"XLA_FLAGS": "--fast"})),
        ("threads", with_environment(variables={"OMP_NUM_THREADS": "1"})),
        ("Python", with_environment(python="3.12")),
        ("operating system", with_environment(platform="Another")),
        ("calls", of("jax", 3, seconds=0.5)),
        ("computed by", lambda r: of("jax", 3, record=r.record.model_copy(update={"framework": "pytorch"}))(r)),
        ("fallbacks", lambda r: of("jax", 3, record=r.record.model_copy(update={"fallbacks": ["slow"]}))(r)),
    ],
)
def test_what_does_not_fit_is_named(word: str, edit: Edit) -> None:
    _, contrast, gates = judged(edit)
    assert gates["records"].status == "failed" and word in gates["records"].detail
    assert "gate records" in contrast.reason


def test_rounds_at_the_same_time_and_of_other_runs_are_told() -> None:
    at = {"started_utc": stamp(3), "finished_utc": stamp(4)}
    comparison, _, _ = judged(lambda r: of("jax", 3, **at)(of("jax", 2, **at)(r)))
    assert any("overlap in time" in w for w in comparison.warnings)
    comparison, _, _ = judged(of("jax", 3, run_id="another"))
    assert any("2 runs are merged" in w for w in comparison.warnings)


def test_peaks_of_one_device_that_are_far_apart_are_told() -> None:
    def edit(r: Round) -> Round:
        if r.role != "tuning" or r.backend != "jax":
            return r
        peaks = r.ceilings.model_copy(update={"matmul_flops_per_second": 3 * r.ceilings.matmul_flops_per_second})
        return changed(r, ceilings=peaks)

    comparison, _, _ = judged(edit)
    assert any("3.0 times the matmul peak" in w for w in comparison.warnings)


def tried(outcomes: dict[int, list[str]], backend: str = "jax") -> Edit:
    """Confirmation rounds that were tried before, by index."""

    def edit(r: Round) -> Round:
        if (r.backend, r.role) != (backend, "confirm"):
            return r
        return changed(r, tries=[Try(begun_utc=stamp(0), outcome=one) for one in outcomes.get(r.index, [])])

    return edit


@pytest.mark.parametrize(
    ("outcomes", "status"),
    [
        ({1: ["sound"]}, "passed"),
        ({1: ["sound"], 2: ["sound"]}, "failed"),
        ({1: ["sound", "sound"]}, "failed"),
        ({1: ["failed"], 4: ["failed"]}, "failed"),  # a backend that raises when it is slow, then --retry-failed
        ({index: ["failed"] for index in range(1, 6)}, "passed"),  # a server that was down
        ({1: ["unfinished"], 2: ["lost"], 3: ["unfinished", "unfinished"]}, "passed"),
    ],
)
def test_rounds_measured_again_until_they_please(outcomes: dict[int, list[str]], status: str) -> None:
    comparison, contrast, gates = judged(tried(outcomes))
    assert gates["records"].status == status, gates["records"].detail
    assert (contrast.verdict == "invalid") is (status == "failed")
    assert any("jax" in w and "measured again" in w for w in comparison.warnings)
