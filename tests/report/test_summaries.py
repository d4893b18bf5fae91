"""Every summary of a partial run carries the skip notice, and names no winner where there is none."""

from __future__ import annotations

import base64
import hashlib
import html
import json
import re
from pathlib import Path

import nbformat
import pytest

from scorematrix.compare import Comparison, compare_run
from scorematrix.notebooks import find_notebook
from scorematrix.report import render_markdown
from scorematrix.report.banner import notices_again, summary
from scorematrix.report.export import export_html
from scorematrix.report.html import text
from scorematrix.report.terminal import closing_lines
from scorematrix.results import TargetState, read_document
from tests.conftest import call_cli, report_of
from tests.factory import make_params, make_run, write_run
from tests.here import execute_here

EVIL = "<script>alert(1)</script> | `x` [y](http://z)"


@pytest.fixture(scope="module")
def partial(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A made-up partial run, its summaries written by the command line."""
    folder = tmp_path_factory.mktemp("partial")
    store = write_run(folder / "outputs" / "runs" / "p")
    done = call_cli("report", "p", cwd=folder)
    assert done.returncode == 0, done.stderr
    return store.folder, done.stdout


def notices_of(folder: Path) -> list[dict]:
    return json.loads((folder / "comparison.json").read_text())["notices"]


def summaries(folder: Path, stdout: str) -> dict[str, str]:
    notebook = nbformat.read(folder / "notebooks" / "03_report.ipynb", as_version=4)
    plain = lambda markup: html.unescape(re.sub(r"<[^>]+>", " ", re.sub(r"</?code>", "`", markup)))  # noqa: E731
    return {
        "report.html": plain(report_of(folder)),
        "report.md": re.sub(r"\\(.)", r"\1", html.unescape(report_of(folder, "md"))),
        "last notebook cell": plain(notebook.cells[-1].outputs[0].data["text/html"]),
        "command line": stdout,
        "comparison.json": json.dumps(json.loads((folder / "comparison.json").read_text()), ensure_ascii=False),
    }


@pytest.mark.parametrize("where", ["report.html", "report.md", "last notebook cell", "command line", "comparison.json"])
def test_notice_stands_in_every_summary(partial: tuple[Path, str], where: str) -> None:
    notices = notices_of(partial[0])
    assert {n["target"] for n in notices} == {"tpu-v6e-1", "gpu-g4"}
    content = " ".join(summaries(*partial)[where].split())
    for notice in notices:
        for part in (notice["label"], notice["reason"], notice["evidence"], notice["next_step"]):
            assert part in content, f"{where} lacks {part!r}"


def test_last_lines_of_the_command_are_the_notices(partial: tuple[Path, str]) -> None:
    assert all(line.startswith("SKIPPED") for line in partial[1].strip().splitlines()[-2:])


def test_what_was_fixed_beforehand_and_what_is_not_shown_are_printed(partial: tuple[Path, str]) -> None:
    comparison = json.loads((partial[0] / "comparison.json").read_text())
    content = " ".join(summaries(*partial)["report.html"].split())
    assert comparison["params_sha256"] in content
    for words in ("3%", "seed 7", "Holm", "1.05"):
        assert words in content, words
    page = report_of(partial[0])
    limits = page[page.index('id="limits"') :].lower()
    for word in ("pipelined throughput", "cost", "energy", "steadiness", "live servers"):
        assert word in limits[: limits.index("</ul>")], word


def test_html_is_one_offline_file(partial: tuple[Path, str]) -> None:
    page = report_of(partial[0])
    assert "<title>PARTIAL" in page
    assert page.index("Content-Security-Policy") < page.index("<style>")
    loads = re.findall(r"""(?:src|href|xlink:href|action|data)\s*=\s*["']([^"'#][^"']*)""", page)
    assert [link for link in loads if not link.startswith("data:")] == []
    assert set(re.findall(r"https?://[^\s\"'<)]+", page)) <= {"http://www.w3.org/2000/svg"}
    assert page.count("<script>") == 1 and "@import" not in page and "url(http" not in page
    script = page[page.index("<script>") + 8 : page.index("</script>")]
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}'" in page
    ids = re.findall(r'\bid="([^"]+)"', page)
    assert len(ids) == len(set(ids)), "ids are unique over all figures"
    for anchor in re.findall(r'href="#([^"]+)"', page):
        assert anchor in ids
    assert page.count('role="img"') >= 5 and len(page) < 3_000_000


def test_figures_of_the_deferred_side_are_never_blank_or_zero(partial: tuple[Path, str]) -> None:
    page = report_of(partial[0])
    rows = [row for row in re.findall(r"<tr>.*?</tr>", page, re.DOTALL) if re.search("gpu-g4</t[dh]>", row)]
    assert rows
    for row in rows:
        cells = [re.sub("<[^>]+>", "", cell) for cell in re.findall(r"<td[^>]*>(.*?)</td>", row)]
        assert all(cell.strip() not in ("", "0", "0.0", "nan", "None") for cell in cells)


@pytest.mark.usefixtures("report_here")
def test_complete_run_has_no_banner_of_skips(tmp_path: Path) -> None:
    one_device = make_params(comparisons=[{"jax": "cpu", "pytorch": "cpu"}])
    store = write_run(tmp_path / "outputs" / "runs" / "c", params=one_device)
    done = call_cli("report", "c", cwd=tmp_path)
    assert done.returncode == 0 and done.stdout.splitlines()[-2].startswith("COMPLETE"), done.stdout
    page = report_of(store.folder)
    assert "<title>JAX" in page and "SKIPPED" not in page


def test_what_a_user_adds_to_the_analysis_is_in_the_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Markdown, a plot with another hue and axis, and a frame in added cells; headings are in the contents."""
    analysis = nbformat.read(find_notebook("03_report"), as_version=4)
    added = [
        nbformat.v4.new_markdown_cell("## A question of mine\nIs the first pass slower?"),
        nbformat.v4.new_code_cell(
            "grid = sns.relplot(rates, x='index', y='seconds_per_pass', hue='chunk_size')\n"
            "grid.figure.suptitle('My plot')\ngrid.figure"
        ),
        nbformat.v4.new_code_cell("rates.groupby('side')[['seconds_per_pass']].max().rename_axis('my_side')"),
    ]
    analysis.cells[-1:-1] = added
    nbformat.write(analysis, tmp_path / "03_report.ipynb")
    monkeypatch.setattr("scorematrix.notebooks.FOLDER", tmp_path)
    store = write_run(tmp_path / "run")
    execute_here("03_report", tmp_path / "o.ipynb", {"run_dir": str(store.folder)})
    page = export_html(tmp_path / "o.ipynb", compare_run(store.manifest(), store.workload(), *rest(store)))
    assert '<h2 id="a-question-of-mine">' in page and 'href="#a-question-of-mine"' in page
    assert "Is the first pass slower?" in page and ">My plot</title>" in page
    assert re.search(r"<th[^>]*>my side</th>", page), "the index's name is a header"


def rest(store) -> tuple:
    return store.readiness(), store.rounds()


def with_evil_evidence() -> Comparison:
    manifest, workload, readiness, rounds = make_run()
    states = [
        TargetState(**(s.model_dump() | {"evidence": EVIL, "label": EVIL})) if s.state == "skipped" else s
        for s in readiness.states
    ]
    readiness = type(readiness)(checked_utc="now", machine=EVIL, states=states)
    return compare_run(manifest, workload, readiness, rounds)


def test_everything_from_data_is_escaped() -> None:
    comparison = with_evil_evidence()
    page = (summary(comparison, EVIL, EVIL) + notices_again(comparison)).html
    assert "<script" not in page and text(EVIL) in page
    markdown = render_markdown(comparison)
    assert "<script" not in markdown and "[y](http" not in markdown
    for line in (line for line in markdown.splitlines() if line.startswith("|")):
        assert line.replace("\\|", "").count("|") in (5, 6, 7)


def test_commands_are_code_in_markdown() -> None:
    markdown = render_markdown(compare_run(*make_run()))
    assert "`make setup EXTRAS=cuda`" in markdown and "\\`" not in markdown


def test_comparison_reads_back(partial: tuple[Path, str]) -> None:
    comparison = read_document(partial[0] / "comparison.json", Comparison)
    assert comparison.partial and len(comparison.contrasts) == 2


def test_unfinished_run_is_partial_and_names_nobody() -> None:
    run = make_run(keep=lambda p: p.index < 3, seconds=lambda b, i, c: 1.0 if b == "jax" else 3.0)
    comparison = compare_run(*run)
    lines = "\n".join([*closing_lines(comparison), render_markdown(comparison)])
    assert lines.startswith("PARTIAL: 9 of 18 rounds")
    assert "times as fast" not in lines and not re.search("JAX is|PyTorch is", lines)
