"""The report in a real browser: what a reader sees, hears, clicks, prints. Skipped where there is no Chromium."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from scorematrix.compare import compare_run
from scorematrix.report import write_report
from scorematrix.results import Round
from tests.factory import changed, make_params, write_run

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
CHECKS: list[tuple[Callable[[Opened], list[str]], int, str]] = [
    (see.complaints, 1280, "light"),
    (see.loads, 1280, "light"),
    (see.banner_out_of_sight, 1280, "light"),
    (see.banner_out_of_sight, 380, "light"),
    (see.dead_links, 1280, "light"),
    (see.dead_links, 380, "light"),
    (see.key_faults, 1280, "light"),
    (see.key_faults, 380, "dark"),
    (see.barriers, 1280, "light"),
    (see.barriers, 1280, "dark"),
    (see.barriers, 380, "light"),
    (see.too_wide, 380, "light"),
    (see.too_wide, 768, "light"),
    (see.too_wide, 1280, "light"),
    (see.small_print, 380, "light"),
]
# What each check must find when it stands at the top of the page.
FAULTS = [
    (see.complaints, "<script>document.title = 'a script ran'</script>"),
    (see.complaints, '<img alt="a picture from elsewhere" src="http://127.0.0.1:9/a.png">'),
    (see.loads, '<img alt="a picture from elsewhere" src="http://127.0.0.1:9/a.png">'),
    (see.banner_out_of_sight, '<div style="height: 60rem"></div>'),
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
    """Each kind of run, and the page that a user gets of it."""
    folder = tmp_path_factory.mktemp("browser")
    found = {}
    for name, (options, verdicts) in RUNS.items():
        store = write_run(folder / name, **options())
        comparison = compare_run(store.manifest(), store.workload(), store.readiness(), store.rounds())
        assert {contrast.verdict for contrast in comparison.contrasts} == verdicts, name
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


@pytest.mark.parametrize("run", RUNS)
@pytest.mark.parametrize(("check", "width", "scheme"), CHECKS, ids=lambda value: getattr(value, "__name__", str(value)))
def test_nothing_is_found(
    reports: dict[str, Path], chromium: Browser, check, width: int, scheme: str, run: str
) -> None:
    with opened(chromium, reports[run], width, scheme) as found:
        assert check(found) == []


@pytest.mark.parametrize(("check", "fault"), FAULTS, ids=lambda value: getattr(value, "__name__", None))
def test_each_check_finds_its_fault(
    reports: dict[str, Path], chromium: Browser, tmp_path: Path, check, fault: str
) -> None:
    spoiled = tmp_path / "spoiled.html"
    page = reports["complete"].read_text().replace("<main>", f"<main>{fault}", 1)
    if check is see.loads:  # under the page's own policy nothing is asked for
        page = page.replace("Content-Security-Policy", "no-policy", 1)
    spoiled.write_text(page)
    with opened(chromium, spoiled, 380) as found:
        assert check(found) != []


@pytest.mark.parametrize("run", RUNS)
@pytest.mark.parametrize("width", [380, 768, 1280])
def test_screenshot_shows_something(
    reports: dict[str, Path], chromium: Browser, tmp_path: Path, width: int, run: str
) -> None:
    picture = tmp_path / f"{run}-{width}.png"
    for scheme in ("light", "dark"):
        with opened(chromium, reports[run], width, scheme) as found:
            top = found.page.screenshot(path=picture.with_stem(f"{picture.stem}-{scheme}-top"))
            whole = found.page.screenshot(path=picture.with_stem(f"{picture.stem}-{scheme}"), full_page=True)
        assert see.inked(top) > 0.05 and see.inked(whole) > 0.05


@pytest.mark.parametrize("run", RUNS)
def test_printed_page_holds_the_banner(reports: dict[str, Path], chromium: Browser, run: str) -> None:
    with opened(chromium, reports[run], scheme="dark") as found:
        banner = [words for words in found.page.locator(".banner p, .banner li").all_inner_texts() if words]
        found.page.emulate_media(media="print")
        paper = found.page.evaluate("getComputedStyle(document.body).backgroundColor")
        printed = see.pdf_words(found.page.pdf(format="A4"))
    assert paper == "rgb(255, 255, 255)"
    assert banner and "Scoreboard" in printed
    for words in banner:
        assert "".join(words.split()) in printed


@pytest.mark.parametrize("run", RUNS)
def test_file_can_be_mailed(reports: dict[str, Path], run: str) -> None:
    assert reports[run].stat().st_size < 3_000_000
