"""An environment that truly lacks a framework: the run goes on with the other, the report comes, deferred."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

from tests.conftest import FIXTURES, QUICK_COMPILES, ROOT, report_of, run_cli
from tests.report.test_no_winner import WON

pytestmark = [pytest.mark.slow, pytest.mark.chaos]
GONE = {"pytorch": ("torch", "functorch", "transformers", "accelerate"), "jax": ("jax", "jaxlib", "jax_plugins")}


def environment_without(framework: str, folder: Path) -> str:
    """A virtual environment whose packages are links to this one's, the framework's left out."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True)
    here, there = Path(sysconfig.get_path("purelib")), next(folder.glob("lib/python3*/site-packages"))
    for entry in here.iterdir():
        stem = entry.name.split("-")[0].split(".")[0]
        if stem not in GONE[framework] and "scorematrix" not in entry.name:
            os.symlink(entry, there / entry.name)
    (there / "scorematrix.pth").write_text(f"{ROOT / 'lib'}\n")
    os.symlink(Path(sys.prefix) / "share", folder / "share")
    return str(folder / "bin" / "python")


@pytest.mark.parametrize(("missing", "present"), [("pytorch", "jax"), ("jax", "pytorch")])
def test_report_comes_deferred(tmp_path: Path, missing: str, present: str) -> None:
    python = environment_without(missing, tmp_path / "env")
    done = run_cli("run", str(FIXTURES / "tiny.yaml"), "--run-id", "half", "--report", "--set", "chunk_sizes=[8]",
                   "--set", "controls=false", cwd=tmp_path, python=python, **QUICK_COMPILES)  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    run = tmp_path / "outputs" / "runs" / "half"
    comparison = json.loads((run / "comparison.json").read_text())
    assert [c["verdict"] for c in comparison["contrasts"]] == ["deferred", "deferred"]
    notice = next(n for n in comparison["notices"] if n["target"] == "cpu")
    assert notice["backend"] == missing and notice["reason"] == "not_installed"
    measured = {path.name.split(".")[0] for path in (run / "rounds").glob("*.r0[12].json")}
    assert measured == {present}
    for text in (done.stdout, report_of(run), report_of(run, "md")):
        assert "not_installed" in text.replace("\\_", "_") and not WON.search(text)
    assert present in report_of(run)
