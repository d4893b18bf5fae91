"""The report in a real browser: what a reader sees, hears, clicks, prints. Skipped where there is no Chromium."""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from scorematrix.compare import compare_run
from scorematrix.report import write_report
from scorematrix.results import Round
from tests.factory import changed, make_params, write_run
from tests.here import execute_here

pytest.importorskip("playwright.sync_api", reason="Playwright is not installed (pip install '.[dev]')")
pytest.importorskip("axe_playwright_python", reason="axe-core is not installed (pip install '.[dev]')")

from playwright.sync_api import Browser, sync_playwright

from tests.report import browser as see
from tests.report.browser import Opened, find_chromium, opened

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(find_chromium() is None, reason="no Chromium on PATH (Debian: apt-get install chromium)"),
]

CPU_ONLY = {"comparisons": [{"jax": "cpu", "pytorch": "cpu"}]}


def slower_pytorch(backend: str, index: int, chunk_size: int) -> float:
    return (2.0 + 4.0 / chunk_size) * (1.0 if backend == "jax" else 1.3) * (1 + 0.002 * (index % 3))


def scattered(backend: str, index: int, chunk_size: int) -> float:
    return (2.0 + 4.0 / chunk_size) * (math.exp(0.3 * (-1) ** index) if backend == "jax" else 1.0)


def wrong_scores(round_: Round) -> Round:
    if round_.backend != "pytorch":
        return round_
    turned = [
        cell.model_dump() | {"scores": [[r[::-1] for r in rows] for rows in cell.scores]} for cell in round_.cells
    ]
    return changed(round_, cells=turned)


# name: (how the run is made, the verdicts that it must hold)
RUNS = {
    "complete": (lambda: {"params": make_params(**CPU_ONLY), "seconds": slower_pytorch}, {"jax"}),
    "partial": (lambda: {"seconds": slower_pytorch}, {"jax", "deferred"}),
    "invalid": (lambda: {"params": make_params(**CPU_ONLY), "edit": wrong_scores}, {"invalid"}),
    "undecided": (
        lambda: {"params": make_params(controls=False, **CPU_ONLY), "seconds": scattered},
        {"not_enough_evidence"},
    ),
}
# What is looked at on each page, in this order: clicks and keys move the focus, and barriers unfolds everything.
CHECKS: dict[tuple[int, str], list[Callable[[Opened], list[str]]]] = {
    (1280, "light"): [
        see.complaints, see.loads, see.banner_out_of_sight, see.verdict_out_of_sight, see.pictures, see.key_faults,
        see.dead_links, see.too_wide, see.sorting_faults, see.barriers,
    ],
    (1280, "dark"): [see.pictures, see.barriers, see.paper_faults],
    (768, "light"): [see.pictures, see.too_wide],
    (768, "dark"): [see.pictures],
    (380, "light"): [
        see.banner_out_of_sight, see.verdict_out_of_sight, see.small_print, see.pictures, see.dead_links, see.too_wide,
        see.barriers,
    ],
    (380, "dark"): [see.pictures, see.key_faults],
}  # fmt: skip
# What each check must find when it stands at the top of the page.
FAULTS = [
    (see.complaints, "<script>document.title = 'a script ran'</script>"),
    (see.complaints, '<img alt="a picture from elsewhere" src="http://127.0.0.1:9/a.png">'),
    (see.loads, '<img alt="a picture from elsewhere" src="http://127.0.0.1:9/a.png">'),
    (see.banner_out_of_sight, '<div style="height: 60rem"></div>'),
    (see.verdict_out_of_sight, '<div style="height: 60rem"></div>'),
    (
        see.sorting_faults,
        '<table class="frame"><thead><tr><th><button>name</button></th></tr></thead>'
        "<tbody><tr><td>b</td></tr><tr><td>a</td></tr></tbody></table>",
    ),
    (see.dead_links, '<p><a href="#nowhere">nowhere</a></p>'),
    (see.dead_links, '<p><a href="#held">held</a></p><p id="held" style="position: fixed; top: 400px">held</p>'),
    (see.key_faults, '<a href="#verdict" tabindex="-1">passed over</a>'),
    (see.key_faults, '<a href="#verdict" style="outline: none">without a mark</a>'),
    (see.key_faults, '<div style="overflow-x: auto; width: 5rem; white-space: pre">a line too long for it</div>'),
    (see.barriers, '<p style="color: #bbb; background: #fff">pale on white</p>'),
    (see.barriers, '<details><summary>folded</summary><p style="color: #bbb; background: #fff">pale</p></details>'),
    (see.too_wide, '<div style="width: 2000px">wide</div>'),
    (see.small_print, '<svg><title>tiny</title><text y="9" font-size="5">five</text></svg>'),
]


@pytest.fixture(scope="module")
def reports(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Each kind of run, and the page that a user gets of it; that of the complete one is by a kernel."""
    folder = tmp_path_factory.mktemp("browser")
    found = {}
    for name, (options, verdicts) in RUNS.items():
        store = write_run(folder / name, **options())
        comparison = compare_run(store.manifest(), store.workload(), store.readiness(), store.rounds())
        assert {contrast.verdict for contrast in comparison.contrasts} == verdicts, name
        with pytest.MonkeyPatch.context() as patch:
            if name != "complete":
                patch.setattr("scorematrix.report.export.execute_notebook", execute_here)
            written = write_report(store, comparison)
        found[name] = next(path for path in written if path.suffix == ".html")
    return found


@pytest.fixture(scope="module")
def chromium(reports: dict[str, Path]) -> Iterator[Browser]:
    """Started after the notebooks have run, ended with the module: beside Playwright's event loop no other can run."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=find_chromium())
        yield browser
        browser.close()


def pages() -> Iterator[tuple]:
    """The partial run in every look, the complete one on a phone; all others with `make test-all`."""
    for (width, scheme), run in itertools.product(CHECKS, RUNS):
        is_quick = run == "partial" or (width, scheme, run) == (380, "light", "complete")
        yield pytest.param(width, scheme, run, marks=() if is_quick else pytest.mark.chaos)


@pytest.mark.parametrize(("width", "scheme", "run"), list(pages()))
def test_nothing_is_found(reports: dict[str, Path], chromium: Browser, width: int, scheme: str, run: str) -> None:
    with opened(chromium, reports[run], width, scheme) as found:
        faults = {check.__name__: check(found) for check in CHECKS[width, scheme]}
    assert {name: findings for name, findings in faults.items() if findings} == {}


@pytest.mark.parametrize(("check", "fault"), FAULTS, ids=lambda value: getattr(value, "__name__", None))
def test_each_check_finds_its_fault(
    reports: dict[str, Path], chromium: Browser, tmp_path: Path, check, fault: str
) -> None:
    spoiled = tmp_path / "spoiled.html"
    # Without its figures, most of a page's elements and of a check's time.
    page = re.sub("<svg.*?</svg>", "", reports["complete"].read_text(), flags=re.DOTALL)
    page = page.replace("<main>", f"<main>{fault}", 1)
    if check is see.loads:  # under the page's own policy nothing is asked for
        page = page.replace("Content-Security-Policy", "no-policy", 1)
    spoiled.write_text(page)
    with opened(chromium, spoiled, 380) as found:
        assert check(found) != []


@pytest.mark.parametrize("run", RUNS)
def test_file_can_be_mailed(reports: dict[str, Path], run: str) -> None:
    assert reports[run].stat().st_size < 3_000_000
