"""Without the folders of its wings, the library runs, reports, and names what is missing."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from scorematrix import servers
from scorematrix.results import RunStore
from scorematrix.wings import WINGS
from tests.conftest import FIXTURES

ROOT = Path(__file__).parents[1]


@pytest.fixture
def core(tmp_path: Path) -> Path:
    """A clone without the wings."""
    left_out = shutil.ignore_patterns("__pycache__", *WINGS)
    shutil.copytree(ROOT / "lib" / "scorematrix", tmp_path / "lib" / "scorematrix", ignore=left_out)
    (tmp_path / "notebooks").symlink_to(ROOT / "notebooks")
    return tmp_path


def scorematrix(core: Path, *arguments: str) -> subprocess.CompletedProcess:
    environment = os.environ | {"PYTHONPATH": str(core / "lib")}
    command = [sys.executable, "-m", "scorematrix", *arguments]
    return subprocess.run(command, cwd=core, env=environment, capture_output=True, text=True)


@pytest.mark.slow
def test_a_run_and_its_report_need_no_wing(core: Path) -> None:
    params = FIXTURES / "numpy.yaml"
    done = scorematrix(core, "run", str(params), "--run-id", "r", "--only", "numpy", "--report")
    run = core / "outputs" / "runs" / "r"
    assert done.returncode == 0, done.stdout + done.stderr
    assert list(run.glob("report*.html")) and all(r.error is None for r in RunStore(run).rounds())


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("--help",), 0, ""),
        (("models",), 0, ""),
        (("serve", "--backend", "noop"), 2, "serve"),
        (("audit", "--url", "http://localhost:1"), 2, "scorematrix/servers"),
        (("run", str(FIXTURES / "numpy.yaml"), "--on", "auto"), 2, "scorematrix/cluster"),
        (("run", str(ROOT / "params" / "servers.yaml"), "--prepare-only"), 2, "sglang"),
    ],
    ids=lambda value: value[0] if isinstance(value, tuple) else "",
)
def test_what_needs_a_wing_says_so(core: Path, arguments: tuple[str, ...], code: int, words: str) -> None:
    done = scorematrix(core, *arguments)
    assert done.returncode == code and "Traceback" not in done.stderr, done.stderr
    assert words in done.stderr


def test_a_missing_package_of_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(servers, "PACKAGES", ("no_such_package",))
    with pytest.raises(ValueError, match=r"no_such_package.*scorematrix\[servers\]"):
        servers.check_packages()


@pytest.mark.parametrize("name", servers.ASKED)
def test_what_the_core_asks_for_is_there(name: str) -> None:
    assert getattr(servers, name).__module__.startswith("scorematrix.servers.")
