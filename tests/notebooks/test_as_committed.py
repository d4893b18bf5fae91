"""What "Run All" in JupyterLab does: every committed notebook runs to its end without a parameter."""

from __future__ import annotations

import os
from pathlib import Path

import nbformat
import pytest

from scorematrix.analysis import open_run
from scorematrix.notebooks import FOLDER, execute_notebook
from scorematrix.report import ReportPage
from scorematrix.results import OUTPUTS, NoRunYet, RunStore, find, find_run
from tests.factory import write_run
from tests.here import execute_here

NOTEBOOKS = sorted(path.stem for path in FOLDER.glob("*.ipynb"))


@pytest.mark.slow
@pytest.mark.chaos
@pytest.mark.usefixtures("smollm2")
@pytest.mark.parametrize("name", NOTEBOOKS)
def test_run_all(name: str, tmp_path: Path) -> None:
    execute_notebook(name, tmp_path / "o.ipynb", {}, timeout_seconds=300)
    cells = nbformat.read(tmp_path / "o.ipynb", as_version=4).cells
    assert any(cell.get("outputs") for cell in cells) and len(NOTEBOOKS) == 4


@pytest.fixture
def clone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The outputs of a clone in which nothing was run yet, seen from another folder."""
    outputs = tmp_path / "outputs"
    outputs.mkdir()
    (outputs / "reference").symlink_to(OUTPUTS / "reference")
    monkeypatch.setattr(find, "OUTPUTS", outputs)
    monkeypatch.chdir(tmp_path.parent)
    return outputs


def test_without_a_run_the_report_shows_a_recorded_one_and_says_so(clone: Path, tmp_path: Path) -> None:
    with pytest.raises(NoRunYet, match="make report"):
        find_run()
    execute_here("03_report", tmp_path / "o.ipynb", {})
    shown = (tmp_path / "o.ipynb").read_text()
    assert "make report" in shown and open_run("quick").manifest.run_id in shown
    assert open_run().is_example and "make report" in repr(open_run())
    write_run(clone / "runs" / "mine")
    assert not open_run().is_example and "make report" not in ReportPage(open_run()).summary().html


def test_the_newest_run_is_found_from_anywhere(clone: Path) -> None:
    for number, name in enumerate(("old", "new")):
        path = write_run(clone / "runs" / name).folder / "run.json"
        path.touch()
        os.utime(path, (number, number))
    assert isinstance(find_run(), RunStore) and find_run().folder.name == "new"
    assert find_run("old").folder.name == "old" and find_run("quick").folder.name == "quick"
    with pytest.raises(ValueError, match="'none'.*new, old"):
        find_run("none")
    with pytest.raises(ValueError, match="'old'"):
        find_run("old", clone.parent / "elsewhere")
