"""Frames of a run: tidy, numeric, true to the rounds and to the comparison."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest
from pandas.api.types import is_bool_dtype, is_numeric_dtype

import scorematrix
from scorematrix import plots
from scorematrix.analysis import Run, open_run
from scorematrix.analysis.opened import FRAMES
from scorematrix.results.figures import cell_figures
from tests.factory import changed, make_params, make_run, make_scores, write_run

WORDS = {
    *("side", "backend", "view", "target", "round", "role", "kind", "status", "reason", "comparison", "first"),
    *("second", "verdict", "next_step", "gate", "found", "backends", "control", "result", "text", "gold", "label"),
    *("evidence", "views", "state", "device", "dtype", "waiting", "attention", "attention_forms", "steadiness"),
    *("baseline", "part"),
}
PRICES = {"cpu": {"usd_per_hour": 3.6, "source": "a price list", "date": "2026-11-24"}}


@pytest.fixture(scope="module")
def run() -> Run:
    return Run(*make_run())


def test_every_frame_is_tidy_and_its_numbers_are_numbers(run: Run) -> None:
    for made in (run, Run(*make_run(keep=lambda p: False))):
        for name in FRAMES:
            frame = getattr(made, name)()
            assert isinstance(frame, pd.DataFrame) and frame.columns.is_unique, name
            for column in set(frame.columns) - WORDS - {"request"}:
                if len(frame):
                    kind = frame[column].dtype
                    assert is_numeric_dtype(kind) or is_bool_dtype(kind), f"{name}: {column} is {kind}"
            assert "NOT AVAILABLE" not in frame.to_string(), name


def test_a_run_says_what_it_is(run: Run) -> None:
    shown = repr(run)
    assert run.comparison.run_id in shown and "PARTIAL" in shown
    for contrast in run.comparison.contrasts:
        assert contrast.sentence in shown
    assert all(f"{name}()" in shown for name in FRAMES)
    assert set(dir(scorematrix)) >= {"open_run", "plots", "load_backend"}


def test_calls_are_all_that_was_timed(run: Run) -> None:
    calls = run.calls()
    n = sum(len(times) for r in run.records for c in r.cells for passes in (c.warmup_ns, c.call_ns)
            for one_pass in passes for times in one_pass)  # fmt: skip
    assert len(calls) == n and set(calls["role"]) == {"reference", "tuning", "confirm", "control"}
    assert set(calls["kind"]) == {"warm-up", "timed"} and set(calls["slowdown"]) == {1.0, 1.05}
    one = calls.query("round == 'jax.portable.cpu.r01' and chunk_size == 4 and kind == 'timed'")
    record = next(r for r in run.records if r.name == "jax.portable.cpu.r01")
    flat = [ns / 1e9 for one_pass in record.cell(4).call_ns for times in one_pass for ns in times]
    assert one["seconds"].tolist() == flat and set(one["n_items"]) == {4}


def test_requests_and_rates_are_sums_of_calls(run: Run) -> None:
    requests = run.requests()
    # Cells x passes x requests, the made-up reference included, controls not.
    assert len(requests) == (1 + 12 * 2) * 2 * 2
    one = requests[(requests["backend"] == "jax") & (requests["index"] == 1) & (requests["chunk_size"] == 4)]
    assert one["n_calls"].tolist() == [2] * 4 and set(one["n_items"]) == {8}
    record = next(r for r in run.records if r.name == "jax.portable.cpu.r01")
    figures = {figure.name: figure for figure in cell_figures(record)}
    rate = run.rates().query("round == 'jax.portable.cpu.r01' and chunk_size == 4")["items_per_second"]
    assert rate.tolist() == [pytest.approx(figures["4"].items_per_second)]
    for side in run.comparison.sides:  # the comparison's estimator
        for cell in side.chunks:
            own = run.rates().query("role == 'confirm' and chunk_size == @cell.chunk_size")
            own = own[own["side"].eq(f"{side.backend} {side.view} on {side.target}")]["items_per_second"]
            assert plots.geometric_mean(own) == pytest.approx(cell.items_per_second)
            assert plots.t_interval(own) == pytest.approx((cell.items_per_second_low, cell.items_per_second_high))
    control = next(r for r in run.records if r.role == "control")
    assert [figure.name for figure in cell_figures(control)] == ["8", "8 slowed by 5%"]


def test_void_rounds_have_no_rate() -> None:
    def edit(r):
        compiled = [c.model_dump() | {"compiles_in_window": 1} for c in r.cells]
        return changed(r, cells=compiled) if (r.backend, r.index) == ("jax", 3) else r

    rates = Run(*make_run(edit=edit)).rates()
    assert set(rates.query("backend == 'jax' and role == 'confirm'")["index"]) == {1, 2, 4, 5}


def test_cells_and_verdicts_are_those_of_the_comparison(run: Run) -> None:
    cells = run.cells().set_index(["side", "chunk_size"])
    for side in run.comparison.sides:
        for cell in side.chunks:
            row = cells.loc[(f"{side.backend} {side.view} on {side.target}", cell.chunk_size)]
            assert row["items_per_second"] == cell.items_per_second and row["chosen"] == (
                cell.chunk_size == side.best_chunk
            )
    assert set(run.cells().query("status == 'skipped'")["target"]) == {"tpu-v6e-1", "gpu-g4"}
    verdicts = run.verdicts()
    for row, contrast in zip(verdicts.itertuples(), run.comparison.contrasts, strict=True):
        assert row.comparison == contrast.name and row.win_margin == contrast.margin
        if contrast.effect:
            assert row.speed_ratio == pytest.approx(1 / contrast.effect.ratio)
            assert row.speed_ratio_low == pytest.approx(1 / contrast.effect.high)
        else:
            assert pd.isna(row.speed_ratio) and row.n_pairs == 0
    assert len(run.gates()) == sum(len(c.gates) for c in run.comparison.contrasts if c.verdict != "deferred")
    assert set(run.skips()["reason"]) == {n.reason for n in run.comparison.notices}


def test_scores_stand_beside_the_reference() -> None:
    def edit(r):
        if r.backend != "jax" or r.role == "reference":
            return r
        scores = [[[p + 5e-5 * (q == 1 and i == 6), other] for i, (p, other) in enumerate(rows)]
                  for q, rows in enumerate(make_scores())]  # fmt: skip
        return changed(r, cells=[c.model_dump() | {"scores": scores} for c in r.cells])

    run = Run(*make_run(edit=edit))
    last = run.last_scores()
    assert set(last["role"]) == {"confirm"} and set(last["index"]) == {5}
    worst = last.loc[last["difference"].abs().idxmax()]
    assert (worst["request"], worst["item"], worst["backend"]) == ("q1", 6, "jax")
    assert worst["difference"] == pytest.approx(5e-5) and worst["text"] == "item <6>"
    assert set(run.scores()["label"]) == {" yes", " no"} == set(run.scores()["gold"])
    assert run.scores()["role"].eq("reference").any() and not run.scores()["role"].eq("control").any()


def test_cost_needs_a_price(run: Run) -> None:
    assert run.sides()["usd_per_million_items"].isna().all()
    priced = Run(*make_run(make_params(prices=PRICES), seconds=lambda b, i, c: 1.6))
    # 16 items in 1.6 s at 0.001 $ a second
    assert priced.sides()["usd_per_million_items"].dropna().tolist() == [pytest.approx(100)] * 2


def test_an_unknown_run_names_the_known_ones(tmp_path: Path) -> None:
    write_run(tmp_path / "runs" / "known-1")
    with pytest.raises(ValueError, match=r"'nope'.*known-1"):
        open_run("nope", tmp_path)
    assert open_run("", tmp_path).store.folder == tmp_path / "runs" / "known-1"
