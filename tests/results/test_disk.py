"""A disk that is full, read-only, or not there: nothing half-written, one line, and what was there stays."""

from __future__ import annotations

import errno
import resource
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from scorematrix.results import RunStore, StorageFailed
from tests.conftest import FIXTURES, call_cli
from tests.disks import small_disk
from tests.factory import changed, make_params, write_run

TINY = str(FIXTURES / "tiny.yaml")
NAME = "jax.portable.cpu.r01"


def only_line(text: str) -> str:
    (line,) = text.strip().splitlines()
    return line


def files(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def test_a_full_disk_keeps_what_was_there(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", "1m") as disk:
        store = write_run(disk.folder / "run", params=make_params(rounds=2))
        before = files(store.folder)
        large = changed(store.round(NAME), error="x" * 2_000_000)
        with pytest.raises(StorageFailed, match=rf"No space left on device: .*{NAME}\.json") as failed:
            store.write_round(large)
        assert failed.value.errno == errno.ENOSPC and files(store.folder) == before
        disk.remount("size=8m")
        store.write_round(large)
        assert store.round(NAME) == large and files(store.folder).keys() == before.keys()


def test_a_write_that_is_cut_off_keeps_what_was_there(tmp_path: Path) -> None:
    """The same for who may not mount: the kernel refuses every byte beyond a limit."""
    store = write_run(tmp_path / "run", params=make_params(rounds=2))
    before = files(store.folder)
    code = (
        "import sys; from scorematrix.results import RunStore; store = RunStore(sys.argv[1]);"
        "store.write_summary('md', 'x' * 100_000, False)"
    )

    def limited() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))

    done = subprocess.run(
        [sys.executable, "-c", code, str(store.folder)], preexec_fn=limited, capture_output=True, text=True
    )
    assert done.returncode == 1 and "StorageFailed: File too large" in done.stderr and "report.md" in done.stderr
    assert files(store.folder) == before


def test_a_read_only_outputs_folder_ends_with_one_line(tmp_path: Path) -> None:
    """Nobody may write to a file system that is mounted so, root neither; the same commands work once it is mended."""
    with small_disk(tmp_path / "outputs", "8m") as disk:
        write_run(disk.folder / "runs" / "r", params=make_params(rounds=2))
        before = files(disk.folder)
        disk.remount("ro")
        commands = {
            "new run": ("run", TINY, "--run-id", "new"),
            "known run": ("run", TINY, "--run-id", "r", "--set", "rounds=2"),
            "report": ("report", "r"),
        }
        for name, command in commands.items():
            done = call_cli(*command, cwd=tmp_path)
            line = only_line(done.stderr)
            assert done.returncode == 1, (name, done.stdout, done.stderr)
            assert "Read-only file system: " in line and "same command" in line, name
        assert files(disk.folder) == before
        disk.remount("rw")
        assert call_cli("report", "r", cwd=tmp_path).returncode == 0


def test_a_file_in_the_place_of_the_outputs_folder_ends_with_one_line(tmp_path: Path) -> None:
    (tmp_path / "outputs").write_text("not a folder")
    done = call_cli("run", TINY, cwd=tmp_path)
    assert done.returncode == 1, done.stdout + done.stderr
    assert "outputs" in only_line(done.stderr) and (tmp_path / "outputs").read_text() == "not a folder"


def test_a_second_run_in_one_folder_is_told_who_fills_it(tmp_path: Path) -> None:
    store = write_run(tmp_path / "outputs" / "runs" / "r", params=make_params(rounds=2))
    holder = subprocess.Popen(
        [sys.executable, "-c", "import sys; from scorematrix.results import RunStore\n"
         "with RunStore(sys.argv[1]).lock(): print('held', flush=True); sys.stdin.read()", str(store.folder)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        assert holder.stdout.readline() == "held\n"
        before = files(store.folder)
        for command in (("run", TINY, "--run-id", "r", "--set", "rounds=2"), ("report", "r", "--merge", "r")):
            done = call_cli(*command, cwd=tmp_path)
            line = only_line(done.stderr)
            assert done.returncode == 2 and f"pid {holder.pid}" in line, done.stderr
        assert files(store.folder) == before
    finally:
        holder.communicate()
    with RunStore(store.folder).lock():
        pass
