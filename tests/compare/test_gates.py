"""Each gate fails on the fault it is there for, and names it."""

from __future__ import annotations

import math

import numpy as np
import pytest

from scorematrix.compare import Comparison, compare_run
from scorematrix.results import Round
from tests.factory import ENVIRONMENT, changed, make_params, make_probes, make_run, make_scores

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


def elsewhere(round_, **changes) -> dict:
    """The environment of the same round on another machine, of the same kind unless said otherwise."""
    return round_.environment.model_dump() | {"machine_sha256": "n" * 64} | changes


FAULTS = {
    "other workload": (on_jax(workload_sha256="x" * 64), "inputs"),
    "other weights": (on_jax(weights_sha256="x" * 64), "inputs"),
    "other protocol": (on_jax(protocol="0"), "inputs"),
    "other machine": (on_jax(environment=ENVIRONMENT.model_copy(update={"machine_sha256": "n" * 64})), "device"),
    "one half of one round on another machine": (
        lambda r: changed(r, environment=elsewhere(r)) if (r.backend, r.index) == ("jax", 3) else r, "device"),
    "a pair on a machine of another kind": (
        lambda r: changed(r, environment=elsewhere(r, cpu="Other CPU")) if r.index == 3 else r, "device"),
    "other cores on the same machine": (
        lambda r: changed(r, environment=elsewhere(r, machine_sha256="m" * 64, affinity=[2, 3]))
        if r.index == 3 else r, "device"),
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
    "moved by neighbours": (
        lambda r: changed(r, probes=make_probes(1.0, 8, neighbours_moved=0.01).model_dump())
        if (r.backend, r.role) == ("jax", "tuning") else r, "isolation jax"),
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
    assert "JAX is" not in contrast.sentence and "PyTorch is" not in contrast.sentence


def test_sound_runs_pass_every_gate() -> None:
    (contrast,) = judged(lambda r: r).contrasts
    assert {gate.status for gate in contrast.gates} == {"passed"}
    assert len(contrast.gates) >= 22, "a gate is not run any more"


def test_whole_pairs_may_lie_on_machines_alike() -> None:
    """On a cluster: every second index on another node, both halves together."""
    (contrast,) = judged(lambda r: changed(r, environment=elsewhere(r)) if r.index % 2 else r).contrasts
    assert {gate.status for gate in contrast.gates} == {"passed"}
    assert next(g for g in contrast.gates if g.name == "device").detail.startswith("2 machines")


def test_without_a_ceiling_nobody_wins() -> None:
    """A faster side whose rate cannot be held against the hardware has not shown enough."""
    params = make_params(**CPU_ONLY_COMPARISON)
    run = make_run(params, seconds=lambda b, i, c: 1.0 if b == "jax" else 2.0,
                   edit=lambda r: changed(r, ceilings=None))  # fmt: skip
    (contrast,) = compare_run(*run).contrasts
    assert contrast.verdict == "not_enough_evidence" and "physics jax" in contrast.reason


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
    assert "dtype" in contrast.reason and "bfloat16" in contrast.reason and "float32" in contrast.reason


@pytest.mark.parametrize(("apart", "verdict"), [(1.5e-5, "tie"), (1e-3, "invalid")])
def test_items_may_be_alike_within_rounding_only(apart: float, verdict: str) -> None:
    """Of 500 items some pair comes out alike by chance, in one chunk size or another."""

    def edit(r: Round) -> Round:
        gap = apart if r.role == "reference" else 0.0
        scores = [[[rows[0][0] + gap, rows[0][1]] if i == 1 else row for i, row in enumerate(rows)]
                  for rows in make_scores()]  # fmt: skip
        return changed(r, cells=[cell.model_dump() | {"scores": scores} for cell in r.cells])

    (contrast,) = judged(edit).contrasts
    assert contrast.verdict == verdict
    assert verdict == "tie" or "isolation jax: jax.portable.cpu.r00 chunk" in contrast.reason


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
