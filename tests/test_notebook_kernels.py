"""Kernels' sockets: a folder for each, short enough for a socket's path, removed with the kernel."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import pytest

from scorematrix.notebook_kernels import LONGEST_FOLDER, PREFIX, PrivateKernelManager, sweep_kernels


def test_two_kernels_do_not_meet() -> None:
    managers = [PrivateKernelManager() for _ in range(2)]
    folders = [Path(manager.ip).parent for manager in managers]
    assert folders[0] != folders[1]
    for manager, folder in zip(managers, folders, strict=True):
        assert manager.transport == "ipc" and folder.is_dir() and folder.stat().st_mode & 0o077 == 0
        manager.cleanup_ipc_files()
        assert not folder.exists()


def test_long_temporary_folder_is_not_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    deep = tmp_path / ("d" * LONGEST_FOLDER)
    deep.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(deep))
    manager = PrivateKernelManager()
    assert len(str(Path(manager.ip).parent)) <= LONGEST_FOLDER and list(deep.iterdir()) == []
    manager.cleanup_ipc_files()


def test_folders_of_killed_processes_are_swept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    names = {"gone": f"{PREFIX}{2**22 + 1}-x", "alive": f"{PREFIX}{os.getpid()}-x", "other": "kernel-1"}
    for name in names.values():
        (tmp_path / name).mkdir()
    sweep_kernels()
    assert {path.name for path in tmp_path.iterdir()} == {names["alive"], names["other"]}
