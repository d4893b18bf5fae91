"""JupyterLab in a browser: "Run All" ends without an error in every notebook, in a clone with a run or without."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from scorematrix.notebooks import FOLDER
from tests.factory import write_run
from tests.test_layout import ROOT

pytest.importorskip("playwright.sync_api", reason="Playwright is not installed (pip install '.[dev]')")

from playwright.sync_api import Page, sync_playwright

from tests.report.browser import find_chromium

pytestmark = [
    pytest.mark.browser,
    pytest.mark.slow,
    pytest.mark.chaos,
    pytest.mark.skipif(find_chromium() is None, reason="no Chromium on PATH (Debian: apt-get install chromium)"),
    pytest.mark.usefixtures("smollm2"),
]

NOTEBOOKS = sorted(path.stem for path in FOLDER.glob("*.ipynb"))
READY = """() => { const panel = window.jupyterapp?.shell?.currentWidget;
  return panel?.context?.isReady && panel.sessionContext?.session?.kernel?.status === 'idle' }"""
ERRORS = """() => jupyterapp.shell.currentWidget.context.model.toJSON().cells.filter(c => c.cell_type === 'code')
  .flatMap(c => [...c.outputs.filter(o => o.output_type === 'error').map(o => `${o.ename}: ${o.evalue}`),
                 ...(c.execution_count === null ? [`not executed: ${c.source.slice(0, 60)}`] : [])])"""
N_OUTPUTS = "() => jupyterapp.shell.currentWidget.context.model.toJSON().cells.filter(c => c.outputs?.length).length"


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a clone holds, without runs."""
    folder = tmp_path_factory.mktemp("clone")
    for name in ("lib", "notebooks", "params"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__", ".ipynb_checkpoints"))
    (folder / "outputs").mkdir()
    (folder / "outputs" / "reference").symlink_to(ROOT / "outputs" / "reference")
    return folder


@pytest.fixture(scope="module")
def lab(clone: Path) -> Iterator[str]:
    """The address of a JupyterLab as `make lab` starts it."""
    log = clone / "lab.log"
    options = ["--no-browser", "--ServerApp.root_dir=.", "--ServerApp.port=0", "--IdentityProvider.token=t",
               "--LabApp.expose_app_in_browser=True", "--allow-root"]  # fmt: skip
    variables = os.environ | {"PYTHONPATH": str(clone / "lib"), "JUPYTER_CONFIG_DIR": str(clone / "config")}
    with open(log, "w") as out:
        server = subprocess.Popen([sys.executable, "-m", "jupyterlab", *options], cwd=clone, env=variables,
                                  stdout=out, stderr=subprocess.STDOUT)  # fmt: skip
    try:
        for _ in range(240):
            if found := re.search(r"http://(?:127\.0\.0\.1|localhost):(\d+)/lab", log.read_text()):
                yield f"http://127.0.0.1:{found[1]}"
                return
            if server.poll() is not None:
                break
            time.sleep(0.25)
        pytest.fail(f"JupyterLab did not start: {log.read_text()[-2000:]}")
    finally:
        server.terminate()
        server.wait(30)


@pytest.fixture(scope="module")
def page(lab: str) -> Iterator[Page]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=find_chromium())
        yield browser.new_page()
        browser.close()


@pytest.mark.parametrize("has_run", [False, True], ids=["before the first run", "after a run"])
def test_run_all(clone: Path, lab: str, page: Page, has_run: bool) -> None:
    if has_run:
        write_run(clone / "outputs" / "runs" / "mine")
    for name in NOTEBOOKS if not has_run else ["03_report", "04_explore"]:
        page.goto(f"{lab}/lab/tree/notebooks/{name}.ipynb?reset&token=t")
        page.wait_for_function(READY, timeout=120_000)
        page.evaluate("() => jupyterapp.commands.execute('notebook:run-all-cells')")
        assert page.evaluate(ERRORS) == [], name
        assert page.evaluate(N_OUTPUTS) >= 3, name
        if name == "03_report":
            shown = page.evaluate("() => JSON.stringify(jupyterapp.shell.currentWidget.context.model.toJSON())")
            assert ("make report" in shown) != has_run
        page.evaluate("() => jupyterapp.shell.currentWidget.sessionContext.shutdown()")
