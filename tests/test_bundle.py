"""An archive that is the same bytes whenever it is made, checks itself, and holds what a machine needs."""

from __future__ import annotations

import os
import subprocess
import tarfile
from pathlib import Path

import pytest

from scorematrix.bundle import write_bundle
from scorematrix.results import RunStore
from tests.conftest import ROOT, call_cli
from tests.factory import write_run


def names(path: Path) -> set[str]:
    with tarfile.open(path) as archive:
        return {member.name.removeprefix("scorematrix/") for member in archive}


def test_the_same_files_are_the_same_bytes(tmp_path: Path) -> None:
    clone = tmp_path / "clone"
    subprocess.run(["git", "clone", "-q", str(ROOT), str(clone)], check=True)
    for path in clone.rglob("*"):
        if path.is_file() and ".git" not in path.parts:
            os.utime(path, (1, 1))
    subprocess.run(["git", "-C", str(clone), "checkout", "-q", "HEAD"], check=True)
    first = write_bundle(tmp_path / "a.tar.gz", full=False, root=clone, outputs=tmp_path)
    second = write_bundle(tmp_path / "deep" / "b.tar.gz", full=False, root=clone, outputs=tmp_path)
    assert first.sha256 == second.sha256 and first.path.read_bytes() == second.path.read_bytes()
    assert sorted(p.name for p in second.path.parent.iterdir()) == ["b.tar.gz"]


def test_minimal_holds_what_a_vm_needs_and_checks_itself(tmp_path: Path) -> None:
    done = call_cli("bundle", str(tmp_path / "b.tar.gz"))
    assert done.returncode == 0 and "sha256" in done.stdout, done.stderr
    found = names(tmp_path / "b.tar.gz")
    assert {"Makefile", "pyproject.toml", "notebooks/02_score_matrix.ipynb", "params/contract.yaml", "SHA256SUMS",
            "lib/constraints.txt", "lib/scorematrix/matrix/orchestrate.py", "outputs/README.md"} <= found  # fmt: skip
    assert not [name for name in found if name.startswith(("tests/", "outputs/reference/", ".git", ".venv"))]
    with tarfile.open(tmp_path / "b.tar.gz") as archive:
        assert {(m.uid, m.gid, m.mtime, m.uname) for m in archive} == {(0, 0, 0, "")}
        archive.extractall(tmp_path / "out", filter="data")
    checked = subprocess.run(
        ["sha256sum", "-c", "SHA256SUMS"], cwd=tmp_path / "out" / "scorematrix", capture_output=True
    )
    assert checked.returncode == 0


def test_full_carries_recorded_runs_without_notebooks(tmp_path: Path) -> None:
    store = write_run(tmp_path / "outputs" / "runs" / "r")
    (store.folder / "notebooks").mkdir()
    (store.folder / "notebooks" / "x.ipynb").write_text("{}")
    (store.folder / ".lock").touch()
    write_bundle(tmp_path / "b.tar.gz", full=True, outputs=tmp_path / "outputs")
    found = {name for name in names(tmp_path / "b.tar.gz") if name.startswith("outputs/runs/")}
    assert "outputs/runs/r/run.json" in found and not [n for n in found if "ipynb" in n or "lock" in n]
    with tarfile.open(tmp_path / "b.tar.gz") as archive:
        archive.extractall(tmp_path / "out", filter="data")
    assert len(RunStore(tmp_path / "out" / "scorematrix" / "outputs" / "runs" / "r").rounds()) == len(store.rounds())


def test_outside_a_checkout_it_says_so(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="git checkout"):
        write_bundle(tmp_path / "b.tar.gz", full=False, root=tmp_path)
    assert list(tmp_path.iterdir()) == []
