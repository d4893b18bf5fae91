"""Each gate fails on the fault it is there for, and names it."""

from __future__ import annotations

import math

import numpy as np
import pytest

from scorematrix.compare import Comparison, compare_run
from scorematrix.results import Round
from tests.factory import ENVIRONMENT, changed, make_params, make_run, make_scores

CPU_ONLY_COMPARISON = {"comparisons": [{"jax": "cpu", "pytorch": "cpu"}]}


def judged(edit) -> Comparison:
    return compare_run(*make_run(make_params(**CPU_ONLY_COMPARISON), edit=edit))


def on_jax(**changes):
    """Change every measured JAX round."""
    return lambda r: changed(r, **changes) if r.backend == "jax" else r


def cells_of_jax(change):
    """Change every cell of every measured JAX round."""

    def edit(round_: Round) -> Round:
        if round_.backend != "jax":
            return round_
        return changed(round_, cells=[cell.model_dump() | change(cell) for cell in round_.cells])

    return edit


def swapped(scores):
    return [[row[::-1] for row in rows] for rows in scores]


def moved(scores, by: float, only: int | None = None):
    return [[[p + by * (i == only or only is None), q] for i, (p, q) in enumerate(rows)] for rows in scores]


def collapsed(scores):
    """Items 2 and 5 alike to the last bit."""
    return [[rows[5] if i == 2 else row for i, row in enumerate(rows)] for rows in scores]


def with_nan(scores):
    return [[[math.nan, 0.5], *rows[1:]] for rows in scores]


FAULTS = {
    "other workload": (on_jax(workload_sha256="x" * 64), "inputs"),
    "other weights": (on_jax(weights_sha256="x" * 64), "inputs"),
    "other protocol": (on_jax(protocol="0"), "inputs"),
    "other machine": (on_jax(environment=ENVIRONMENT.model_copy(update={"machine_sha256": "n" * 64})), "device"),
    "other cores": (on_jax(environment=ENVIRONMENT.model_copy(update={"affinity": [0]})), "device"),
    "NaN": (cells_of_jax(lambda c: {"scores": with_nan(c.scores)}), "finite"),
    "NaN in an earlier pass": (cells_of_jax(lambda c: {"pass_deviation": math.nan}), "finite"),
    "all alike": (cells_of_jax(lambda c: {"scores": [[[0.5, 0.5]] * 8] * 2}), "finite"),
    "off by 0.001": (cells_of_jax(lambda c: {"scores": moved(c.scores, 1e-3)}), "reference jax"),
    "one item off": (cells_of_jax(lambda c: {"scores": moved(c.scores, 2e-4, only=3)}), "reference jax"),
    "an earlier pass off": (cells_of_jax(lambda c: {"pass_deviation": 1e-3}), "reference jax"),
    "labels swapped": (cells_of_jax(lambda c: {"scores": swapped(c.scores)}), "ranking jax"),
    "off by 0.03": (cells_of_jax(lambda c: {"scores": moved(c.scores, 0.03)}), "between sides"),
    "depends on the chunk": (
        cells_of_jax(lambda c: {"scores": moved(c.scores, 0.01 * (c.chunk_size == 4))}), "isolation jax"),
    "items collapse": (cells_of_jax(lambda c: {"scores": collapsed(c.scores)}), "isolation jax"),
    "compiles while timed": (cells_of_jax(lambda c: {"compiles_in_window": 1}), "calls"),
    "returns before the device is done": (
        cells_of_jax(lambda c: {"call_ns": [[[ns // 50 for ns in calls] for calls in p] for p in c.call_ns]}),
        "physics jax"),
    "every call fails": (
        cells_of_jax(lambda c: {"status": "failed", "error": "boom", "scores": [], "call_ns": []}), "calls"),
}  # fmt: skip


@pytest.mark.parametrize("fault", FAULTS)
def test_fault_is_caught_and_named(fault: str) -> None:
    edit, gate = FAULTS[fault]
    (contrast,) = judged(edit).contrasts
    failed = [g.name for g in contrast.gates if g.status == "failed"]
    assert gate in failed
    assert contrast.verdict == "invalid"
    assert gate in contrast.reason
    assert "no winner" in contrast.sentence


def test_sound_runs_pass_every_gate() -> None:
    (contrast,) = judged(lambda r: r).contrasts
    assert {gate.status for gate in contrast.gates} == {"passed"}
    assert len(contrast.gates) == 13


def test_without_a_ceiling_nobody_wins() -> None:
    """A faster side whose rate cannot be held against the hardware has not shown enough."""
    params = make_params(**CPU_ONLY_COMPARISON)
    run = make_run(params, seconds=lambda b, i, c: 1.0 if b == "jax" else 2.0,
                   edit=lambda r: changed(r, ceilings=None))  # fmt: skip
    (contrast,) = compare_run(*run).contrasts
    assert contrast.verdict == "not_enough_evidence" and "gate physics jax has not run" in contrast.reason


@pytest.mark.parametrize(("views", "n_physics"), [(["portable"], 2), (["best_native"], 0)])
def test_prefix_reuse_is_not_taken_for_a_missing_wait(views: list[str], n_physics: int) -> None:
    backends = [{"backend": name, "views": views} for name in ("jax", "pytorch")]
    params = make_params(**CPU_ONLY_COMPARISON, backends=backends, reuse_prefix=2)
    kept = 2 if views == ["best_native"] else 0  # as the engines of each view record it

    def edit(r: Round) -> Round:
        return changed(r, record=r.record.model_dump() | {"settings": {"reuse_prefix": kept}})

    (contrast,) = compare_run(*make_run(params, edit=edit)).contrasts
    assert sum(gate.name.startswith("physics") for gate in contrast.gates) == n_physics


def test_other_dtype_is_refused() -> None:
    def edit(r: Round) -> Round:
        return changed(r, record=r.record.model_dump() | {"dtype": "bfloat16"}) if r.backend == "jax" else r

    (contrast,) = judged(edit).contrasts
    assert "dtype differs: " in contrast.reason and "bfloat16" in contrast.reason and "float32" in contrast.reason


def test_small_noise_is_no_fault() -> None:
    noisy = np.random.default_rng(4)
    edit = cells_of_jax(lambda c: {"scores": make_scores(1.5e-5, int(noisy.integers(1000)))})
    (contrast,) = judged(edit).contrasts
    assert {gate.status for gate in contrast.gates} == {"passed"}


def test_without_reference_nobody_wins() -> None:
    run = make_run(make_params(**CPU_ONLY_COMPARISON), seconds=lambda b, i, c: 1.0 if b == "jax" else 2.0,
                   keep=lambda p: p.role != "reference")  # fmt: skip
    (contrast,) = compare_run(*run).contrasts
    assert contrast.verdict == "not_enough_evidence"
    assert "reference" in contrast.reason
