"""The report's sections: what each shows, and that everything is a click or two away."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest

from scorematrix.analysis import Run
from scorematrix.compare.sides import starts
from scorematrix.matrix import needed_targets, plan_rounds
from scorematrix.readiness import check_readiness
from scorematrix.readiness.devices import FrameworkDevices
from scorematrix.report import ReportPage, trust
from scorematrix.report.formatting import NONE
from scorematrix.report.html import commands, table
from scorematrix.report.preflight import plan_summary
from scorematrix.results.audits import Gate
from scorematrix.results.schema import Compile, Setup
from tests.factory import CPU_ONLY, changed, make_params, make_run

SECTIONS = ("summary", "compiled", "evidence", "servers", "methods", "appendix", "notices")


def page_of(run: tuple) -> ReportPage:
    return ReportPage(Run(*run))


@pytest.fixture(scope="module")
def page() -> ReportPage:
    return page_of(make_run())


def whole(page: ReportPage) -> str:
    return "".join(getattr(page, name)().html for name in SECTIONS)


def element(html: str, anchor: str) -> str:
    """The markup from the element with this id on."""
    assert html.count(f'id="{anchor}"') == 1, anchor
    return html[html.index(f'id="{anchor}"') :]


def test_a_skip_is_one_click_from_its_reason_and_its_remedy(page: ReportPage) -> None:
    html, banner = whole(page), page.summary().html
    ways = re.findall(r'href="#(skip-\d+)"', banner)
    assert len(ways) == len(page.run.comparison.notices) == 2
    for way, notice in zip(ways, page.run.comparison.notices, strict=True):
        assert notice.label in banner and "<code>make setup EXTRAS=" in banner
        assert commands(notice.next_step) in element(html, way) and notice.evidence in element(html, way)


def test_a_verdict_is_two_clicks_from_its_raw_samples(page: ReportPage) -> None:
    html = whole(page)
    ways = re.findall(r'href="#(evidence-\d+)"', page.summary().html)
    assert len(ways) == len(page.run.comparison.contrasts) == 2
    for way, contrast in zip(ways, page.run.comparison.contrasts, strict=True):
        evidence = element(html, way)
        evidence = evidence[: evidence.index("</details>")]
        assert all(gate.name in evidence for gate in contrast.gates)
        samples = re.findall(r'href="#(samples-[^"]+)"', evidence)
        assert len(samples) == 2
        for anchor in samples:
            found = element(html, anchor)
            found = found[: found.index("</details>")]
            assert "No round of this side" in found if "gpu" in anchor or "tpu" in anchor else "confirm 5" in found


def test_raw_samples_are_the_rounds_own(page: ReportPage) -> None:
    (round_,) = (r for r in page.run.records if r.name == "jax.portable.cpu.r03")
    seconds = sum(map(sum, round_.cell(8).call_ns[0])) / 1e9
    found = element(page.appendix().html, "samples-jax-portable-cpu")
    assert f"{seconds:.3f}" in found[: found.index("</details>")]


def test_the_settings_name_the_mesh_of_a_view_that_is_spread() -> None:
    def edit(r):
        spread = {"settings": {"threads": 2} | ({"mesh": "data=2,model=4"} if r.backend == "jax" else {})}
        return changed(r, record=r.record.model_dump() | spread)

    html = page_of(make_run(edit=edit)).appendix().html
    found = element(html, "settings")
    found = found[: found.index("</details>")]
    rows = [row for row in found.split("<tr") if "threads=2" in row]
    assert [("jax" in row, "mesh=data=2,model=4" in row) for row in rows] == [("jax" in row,) * 2 for row in rows]
    assert found.count("mesh=data=2,model=4") == 1, "rounds that say the same are one row"


def test_what_is_not_available_stands_once_a_run_of_columns() -> None:
    html = table("t", ["a", "b", "c", "d", "e"], [["row", NONE, NONE, "1", NONE]]).html
    assert html.count(NONE) == 2 and html.count('colspan="2"') == 1
    assert re.findall(r'<td class="figure"[^>]*>', html) == [
        '<td class="figure" colspan="2">', '<td class="figure">', '<td class="figure">']  # fmt: skip


@pytest.mark.parametrize(
    ("cached", "kind", "trace", "compiled", "other"),
    [
        ([[]], "nothing_to_compile", 0, 0, 10),
        ([[True, True]], "from_cache", 2, 4, 4),
        ([[True, False]], "compiled", 2, 4, 4),
    ],
)
def test_starts_are_told_by_what_happened(cached, kind: str, trace: float, compiled: float, other: float) -> None:
    setups = [
        Setup(load_model_seconds=1, load_backend_seconds=2, prepare_seconds=10,
              compiles=[Compile(program="p", trace_seconds=1, compile_seconds=2, from_cache=c) for c in one])
        for one in cached
    ]  # fmt: skip
    (found,) = starts(setups)
    assert (found.kind, found.load_seconds, found.n_programs) == (kind, 3, len(cached[0]))
    assert (found.trace_seconds, found.compile_seconds, found.other_seconds) == (trace, compiled, other)


def test_of_starts_the_slowest_compile_and_the_median_of_the_rest() -> None:
    def setup(prepare: float, cached: bool) -> Setup:
        compiles = [Compile(program="p", trace_seconds=0, compile_seconds=prepare, from_cache=cached)]
        return Setup(load_model_seconds=0, load_backend_seconds=0, prepare_seconds=prepare, compiles=compiles)

    found = starts([setup(s, cached=False) for s in (7, 9)] + [setup(s, cached=True) for s in (3, 1, 2)])
    assert [(f.kind, f.n_rounds, f.compile_seconds) for f in found] == [("compiled", 2, 9), ("from_cache", 3, 2)]


@pytest.mark.parametrize(("verdict", "mark"), [("jax", "PASSED"), ("not_enough_evidence", "UNDECIDED")])
def test_a_winner_is_not_undecided_for_a_gate_that_only_a_tie_needs(page: ReportPage, verdict: str, mark: str) -> None:
    gates = [Gate(name="inputs", status="passed", detail=""), Gate(name="5% control cpu", status="not_run", detail="")]
    contrast = page.run.comparison.contrasts[0].model_copy(update={"verdict": verdict, "gates": gates})
    found = trust.evidence(page.run.comparison.model_copy(update={"contrasts": [contrast]})).html
    (line,) = re.findall(r"<li>(.*?)</li>", found[found.index('class="trust"') :])
    assert f">{mark}<" in line and "5% control cpu" in line


@pytest.mark.parametrize(("device", "words"), [("NVIDIA RTX PRO 6000", "not needed"), (None, "runs here")])
def test_the_plan_says_which_reference_is_needed(device: str | None, words: str) -> None:
    frameworks = {"pytorch": FrameworkDevices((("gpu", device),))} if device else {}
    machine = replace(CPU_ONLY, nvidia=(device,) if device else (), frameworks=CPU_ONLY.frameworks | frameworks)
    params = make_params(comparisons=[{"jax": "tpu-v6e-1", "pytorch": "gpu-g4"}])
    shown = plan_summary(plan_rounds(params), check_readiness(needed_targets(params), machine, "")).html
    rows = [row for row in shown.split("<tr>") if "reference" in row and "<td>cpu</td>" in row]
    assert len(rows) == 1 and words in rows[0]
    assert ("SKIPPED" in shown.split("<tr>")[2]) == (device is None), "the GPU's reference"
