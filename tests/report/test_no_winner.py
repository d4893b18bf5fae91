"""No path leads from a missing, invalid or undecided side to a winner's name: random partial results, every output."""

from __future__ import annotations

import html
import io
import math
import re
from collections.abc import Iterator
from pathlib import Path
from unittest import mock

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from matplotlib.figure import Figure
from matplotlib.text import Text

from scorematrix import plots
from scorematrix.analysis import Run
from scorematrix.analysis.style import figure_svg
from scorematrix.compare import Comparison, compare_run
from scorematrix.report import ReportPage, render_markdown
from scorematrix.report.terminal import closing_lines
from scorematrix.results import Round, RunStore, read_document
from tests.conftest import call_cli, report_of
from tests.factory import CEILINGS, ENVIRONMENT, NOISE, changed, make_params, make_passes, make_probes, make_run

WON = re.compile(r"\b(?:JAX|PyTorch) is [\d,.]+ times as fast as (?:JAX|PyTorch)\b")
WINS = ("jax", "pytorch")
FAULTS = {
    "lost": None,
    "failed": lambda c: {"status": "failed", "error": "boom", "scores": [], "call_ns": []},
    "timeout": lambda c: {"status": "timeout", "error": "too long", "scores": [], "call_ns": []},
    "NaN": lambda c: {"scores": [[[math.nan, 0.5] for _ in rows] for rows in c.scores]},
    "wrong": lambda c: {"scores": [[row[::-1] for row in rows] for rows in c.scores]},
    "compiles": lambda c: {"compiles_in_window": 2},
    "too fast": lambda c: {"call_ns": make_passes(0.001, c.chunk_size)},
    "odd": lambda c: {"call_ns": make_passes(7.0, c.chunk_size)},
}
ROUND_FAULTS = {
    "other weights": {"weights_sha256": "x" * 64},
    "other machine": {"environment": ENVIRONMENT.model_copy(update={"machine_sha256": "n" * 64}).model_dump()},
    "no ceiling": {"ceilings": None},
    "slow ceiling": {"ceilings": CEILINGS.model_copy(update={"matmul_flops_per_second": 1.0}).model_dump()},
    "hot": {"noise": NOISE.model_copy(update={"throttle_events": 1}).model_dump()},
    "caching": {"probes": make_probes(1.0, 8, fresh_ns=make_passes(9.0, 8)).model_dump()},
    "leaking": {"probes": make_probes(1.0, 8, neighbours_moved=0.2).model_dump()},
}

faults = st.dictionaries(
    st.tuples(st.sampled_from(["jax", "pytorch", "transformers"]), st.integers(0, 8)),
    st.sampled_from([*FAULTS, *ROUND_FAULTS]),
    max_size=4,
)
runs = st.fixed_dictionaries(
    {
        "rounds": st.integers(2, 7),
        "max_rounds": st.sampled_from([None, 8]),
        "controls": st.booleans(),
        "effect": st.sampled_from([0.5, 0.94, 1.0, 1.04, 2.0]),
        "scatter": st.sampled_from([0.0, 0.02, 0.3]),
        "last_index": st.integers(0, 8),
        "cpu_only": st.booleans(),
        "faults": faults,
    }
)


BASE = {
    "rounds": 5,
    "max_rounds": None,
    "controls": True,
    "scatter": 0.0,
    "last_index": 8,
    "cpu_only": True,
    "faults": {},
}


def make(run: dict) -> tuple:
    """A run with these faults, and all later rounds missing."""

    def seconds(backend: str, index: int, chunk: int) -> float:
        own = run["effect"] * math.exp(run["scatter"] * (-1) ** index) if backend == "jax" else 1.0
        return (2.0 + 4.0 / chunk) * own

    def edit(round_: Round) -> Round:
        fault = run["faults"].get((round_.backend, round_.index))
        if fault in ROUND_FAULTS:
            if round_.role != "tuning" and fault in ("caching", "leaking", "no ceiling", "slow ceiling"):
                return round_
            return changed(round_, **ROUND_FAULTS[fault])
        if fault is None or FAULTS[fault] is None:
            return round_
        return changed(round_, cells=[cell.model_dump() | FAULTS[fault](cell) for cell in round_.cells])

    def keep(planned) -> bool:
        lost = run["faults"].get((planned.backend, planned.index)) == "lost"
        return planned.index <= run["last_index"] and not lost

    changes = {"comparisons": [{"jax": "cpu", "pytorch": "cpu"}]} if run["cpu_only"] else {}
    params = make_params(rounds=run["rounds"], max_rounds=run["max_rounds"], controls=run["controls"], **changes)
    return make_run(params, seconds=seconds, edit=edit, keep=keep)


def outputs(run: tuple) -> Iterator[tuple[str, str]]:
    """Everything that says something about a run, as plain text."""
    manifest, workload, readiness, rounds = run
    comparison = compare_run(manifest, workload, readiness, rounds)
    yield "command line", "\n".join(closing_lines(comparison))
    yield "report.md", render_markdown(comparison)
    opened = Run(*run)
    page = ReportPage(opened)
    parts = [page.summary(), page.evidence(), page.methods(), page.appendix(), page.notices()]
    drawn = [figure_svg(plots.speed_ratios(opened.verdicts())), figure_svg(plots.heatmap(opened.cells()))]
    shown = " ".join([*(part.html for part in parts), *drawn, opened.verdicts().to_html()])
    yield "report.html", re.sub(r"<[^>]+>", " ", shown)
    yield "comparison.json", comparison.model_dump_json()


def check(comparison: Comparison, texts: dict[str, str]) -> None:
    won = [c for c in comparison.contrasts if c.verdict in WINS]
    for name, text in texts.items():
        sentences = WON.findall(text)
        assert len(sentences) == len(won), name
        if not won:
            assert not sentences, name
            assert '"verdict":"jax"' not in text and '"verdict":"pytorch"' not in text
    for contrast in won:
        assert contrast.effect is not None and contrast.effect.n_rounds >= 5
        assert {gate.status for gate in contrast.gates if "% control" not in gate.name} == {"passed"}
        beyond = contrast.effect.high < 1 if contrast.verdict == "jax" else contrast.effect.low > 1
        assert beyond
    for contrast in comparison.contrasts:
        if contrast.verdict not in WINS:
            assert not WON.search(contrast.sentence)
        if any(gate.status == "failed" for gate in contrast.gates) and contrast.verdict != "deferred":
            assert contrast.verdict == "invalid"


def words_alone(drawing: Figure, buffer: io.StringIO, **_: object) -> None:
    """Stand for `Figure.savefig`, four fifths of the time: what is written in a drawing, undrawn."""
    words = "".join(f"<text>{html.escape(one.get_text())}</text>" for one in drawing.findobj(Text))
    buffer.write(f"<svg>{words}</svg>")


@mock.patch.object(Figure, "savefig", words_alone)
@settings(max_examples=80, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
@given(runs)
def test_no_output_names_a_winner_without_evidence(run: dict) -> None:
    made = make(run)
    check(compare_run(*made), dict(outputs(made)))


def test_the_search_meets_winners_and_every_other_verdict() -> None:
    """The property above would hold of a tool that never says anything."""
    cases = {
        "pytorch": {"effect": 2.0},
        "jax": {"effect": 0.5},
        "tie": {"effect": 1.0},
        "not_enough_evidence": {"effect": 1.0, "last_index": 3},
        "invalid": {"effect": 2.0, "faults": {("jax", 2): "NaN"}},
    }
    for verdict, changes in cases.items():
        made = make(BASE | changes)
        comparison = compare_run(*made)
        assert comparison.contrasts[0].verdict == verdict
        check(comparison, dict(outputs(made)))


@pytest.mark.slow
@pytest.mark.parametrize("fault", [None, ("jax", 2, "NaN")])
@pytest.mark.usefixtures("report_here")
def test_real_files_and_the_command_line(tmp_path: Path, fault: tuple | None) -> None:
    """The same through the store, the notebook's cells and the command: exit code 3 where a gate failed."""
    run = BASE | {"effect": 2.0, "cpu_only": False, "faults": {fault[:2]: fault[2]} if fault else {}}
    manifest, workload, readiness, rounds = make(run)
    store = RunStore(tmp_path / "outputs" / "runs" / "r")
    store.write_workload(workload)
    store.write_manifest(manifest)
    store.write_readiness(readiness)
    for round_ in rounds:
        store.write_round(round_)
    done = call_cli("report", "r", cwd=tmp_path)
    comparison = read_document(store.folder / "comparison.json", Comparison)
    invalid = any(c.verdict == "invalid" for c in comparison.contrasts)
    assert done.returncode == (3 if invalid else 0), done.stderr
    texts = {"stdout": done.stdout, "report.md": report_of(store.folder, "md"),
             "report.html": re.sub(r"<[^>]+>", " ", report_of(store.folder))}  # fmt: skip
    check(comparison, texts)
