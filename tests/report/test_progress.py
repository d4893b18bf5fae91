"""Progress as it is seen: a log of lines, a terminal, JupyterLab."""

from __future__ import annotations

import io
import re
import time
from pathlib import Path

import pytest
from rich.console import Console

from scorematrix.matrix.orchestrate import Progress
from scorematrix.report.notebook_progress import follow_run, show_progress, status_page
from scorematrix.report.progress import RunProgress
from scorematrix.results import RunStore
from scorematrix.results.status import RunFollower
from tests.conftest import real_time
from tests.factory import make_params, write_run

LOCAL = {"comparisons": [{"jax": "cpu", "pytorch": "cpu"}]}


@pytest.fixture
def store(tmp_path: Path) -> RunStore:
    return write_run(tmp_path / "r", params=make_params(rounds=2, **LOCAL), keep=lambda p: p.position < 3)


def drive(console: Console, store: RunStore, wait: float = 0.0) -> str:
    with RunProgress(console, store) as progress:
        for round_ in store.rounds():
            planned = next(p for p in store.manifest().plan if p.name == round_.name)
            progress(Progress("begin", planned, planned.position, 9))
            time.sleep(wait)
            progress(Progress("end", planned, planned.position + 1, 9, round_))
    return console.file.getvalue()


def test_a_log_holds_one_line_a_round_and_nothing_else(store: RunStore) -> None:
    lines = drive(Console(file=io.StringIO(), width=200), store).splitlines()
    assert [line.split("]")[0] for line in lines] == ["[1/9", "[2/9", "[3/9"]
    figures = r"chunk 4 [\d.]+ items/s, chunk 8 [\d.]+ items/s"
    assert re.fullmatch(rf"\[2/9\] (jax|pytorch)\.portable\.cpu\.r00 tuning: {figures}", lines[1])


@real_time
def test_a_terminal_shows_what_goes_on(store: RunStore) -> None:
    console = Console(file=io.StringIO(), force_terminal=True, width=120, _environ={"TERM": "xterm"})
    seen = re.sub(r"\x1b\[[\d;?]*[A-Za-z]", "", drive(console, store, wait=0.5))
    assert "3 of 9 rounds" in seen and "unknown" in seen
    assert "no verdict" in seen and "starting" in seen
    assert "[3/9]" in seen
    assert re.search(r"━ *\n *done", seen), "the bar has a line of its own"


@real_time
def test_a_narrow_terminal_keeps_to_its_width(store: RunStore) -> None:
    console = Console(file=io.StringIO(), force_terminal=True, width=50, soft_wrap=True, _environ={"TERM": "xterm"})
    with RunProgress(console, store):
        time.sleep(1.2)
    seen = re.sub(r"\x1b\[[\d;?]*[A-Za-z]", "", console.file.getvalue())
    assert seen and max(len(line) for line in seen.replace("\r", "\n").splitlines()) <= 50


class Displays:
    """A stand-in for IPython's display: what was shown and updated, in order."""

    def __init__(self) -> None:
        self.shown: list[str] = []

    def __call__(self, fragment, display_id: bool = False):
        self.shown.append(fragment._repr_html_())
        return self

    def update(self, fragment) -> None:
        self.shown.append(fragment._repr_html_())


@pytest.fixture
def displays(monkeypatch: pytest.MonkeyPatch) -> Displays:
    found = Displays()
    monkeypatch.setattr("IPython.display.display", found)
    monkeypatch.setattr("scorematrix.report.notebook_progress.EVERY_SECONDS", 0.05)
    return found


def head(html: str) -> str:
    """The words that say whether a run is whole, and whether anybody fills it."""
    return re.search("<b>(.*?)</b>", html).group(1)


def head_of(store: RunStore, going_on: bool) -> str:
    heads = [head(status_page(RunFollower(store).look(), state).html) for state in (False, True)]
    assert heads[0] != heads[1] and all(words.startswith("PARTIAL") for words in heads)
    return heads[going_on]


def test_a_run_that_nobody_fills_is_shown_once(store: RunStore, displays: Displays) -> None:
    follow_run(store, seconds=30)
    assert len(displays.shown) == 1 and head(displays.shown[0]) == head_of(store, False)


@real_time
def test_a_run_that_goes_on_is_followed_for_so_long(store: RunStore, displays: Displays) -> None:
    with store.lock():
        follow_run(store, seconds=0.3)
    assert len(displays.shown) >= 3 and {head(html) for html in displays.shown} == {head_of(store, True)}


@real_time
def test_a_run_that_is_filled_from_a_notebook(store: RunStore, displays: Displays) -> None:
    with show_progress(store):
        time.sleep(0.3)
    assert len(displays.shown) >= 3 and "3 of 9 rounds" in displays.shown[-1]


def test_a_whole_run_is_not_called_partial(tmp_path: Path) -> None:
    whole = write_run(tmp_path / "w", params=make_params(rounds=2, **LOCAL))
    html = status_page(RunFollower(whole).look(), False).html
    assert "PARTIAL" not in html and 'role="status"' in html
