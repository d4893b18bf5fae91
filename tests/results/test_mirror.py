"""A run's copy in an object store: complete, never mixed up, and enough to go on from."""

from __future__ import annotations

import importlib.util
import shutil
import uuid
from ftplib import error_perm
from pathlib import Path

import fsspec
import pytest

from scorematrix.results import Mirror, RunStore
from tests.conftest import FIXTURES, call_cli, real_time, report_of
from tests.factory import changed, write_run


@pytest.fixture
def address() -> str:
    """An object store in memory, a place of its own for each test."""
    return f"memory://bucket-{uuid.uuid4().hex}/runs/r"


def names(address: str) -> set[str]:
    fs, root = fsspec.core.url_to_fs(address)
    return {path.removeprefix(root).lstrip("/") for path in fs.find(root)}


def test_what_is_pushed_is_pulled(tmp_path: Path, address: str) -> None:
    store = write_run(tmp_path / "here")
    (store.folder / "notebooks").mkdir()
    (store.folder / "notebooks" / "x.ipynb").write_text("{}")
    (store.folder / ".lock").touch()
    store.write_draft(store.rounds()[0])
    mirror = Mirror(address)
    went = mirror.push(store.folder)
    assert went == len(names(address)) == len(store.rounds()) + 3 and not [n for n in names(address) if "draft" in n]
    assert mirror.push(store.folder) == 0, "nothing changed"
    assert Mirror(address).pull(tmp_path / "there") == went
    there = RunStore(tmp_path / "there")
    assert [r.sha256 for r in there.rounds()] == [r.sha256 for r in store.rounds()]
    assert Mirror(address).pull(tmp_path / "there") == 0


def test_only_what_is_new_goes_up(tmp_path: Path, address: str) -> None:
    store = write_run(tmp_path / "here", keep=lambda p: p.index < 2)
    mirror = Mirror(address)
    mirror.push(store.folder)
    store.write_round(changed(store.rounds()[-1], index=9))
    store.write_readiness(store.readiness().model_copy(update={"machine": "another", "sha256": ""}))
    again = Mirror(address)
    again.pull(store.folder)
    assert again.push(store.folder) == 2


def test_two_runs_are_not_mixed(tmp_path: Path, address: str) -> None:
    one, other = write_run(tmp_path / "one"), write_run(tmp_path / "other", seconds=lambda b, i, c: 3.0)
    Mirror(address).push(one.folder)
    with pytest.raises(ValueError, match=r"other/rounds/.*memory://"):
        Mirror(address).pull(other.folder)


@pytest.mark.parametrize(("address", "package"), [("nosuch://bucket/run", None), ("gs://bucket/run", "gcsfs")])
def test_an_address_that_cannot_be_opened_is_told(tmp_path: Path, address: str, package: str | None) -> None:
    if package and importlib.util.find_spec(package):
        pytest.skip(f"{package} is installed here: the address can be opened")
    done = call_cli("run", str(FIXTURES / "tiny.yaml"), "--mirror", address, cwd=tmp_path)
    assert done.returncode == 2 and f"mirror='{address}'" in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_an_upload_that_fails_is_noted_and_made_up_for(
    tmp_path: Path, address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever a library raises: error_perm of FTP is no OSError."""
    store, mirror, push = write_run(tmp_path / "here"), Mirror(address), Mirror.push
    failures = [error_perm("550 jane may not write"), ConnectionResetError(104, "reset")]

    def fail_first(self: Mirror, folder: Path) -> int:
        if failures:
            raise failures.pop(0)
        return push(self, folder)

    monkeypatch.setattr(Mirror, "push", fail_first)
    monkeypatch.setattr("scorematrix.results.mirror.WAIT_SECONDS", 0)
    mirror.copy(store.folder)
    assert mirror.trouble and "550 jane" in mirror.trouble and not names(address)
    mirror.copy(store.folder, tries=2)
    assert mirror.trouble is None and len(names(address)) == len(store.rounds()) + 3


@real_time  # the rounds are threads of this process and may delay the conductor's clock
@pytest.mark.slow
@pytest.mark.usefixtures("rounds_here")
def test_a_mirror_that_fails_does_not_end_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(self: Mirror, folder: Path) -> int:
        raise error_perm("550 no")

    bucket = f"file://{tmp_path}/bucket/r"
    run = ("run", str(FIXTURES / "numpy.yaml"), "--run-id", "r", "--mirror", bucket)
    monkeypatch.setattr("scorematrix.results.mirror.WAIT_SECONDS", 0)
    with monkeypatch.context() as failing:
        failing.setattr(Mirror, "push", fail)
        done = call_cli(*run, cwd=tmp_path)
    rounds = RunStore(tmp_path / "outputs" / "runs" / "r").rounds()
    assert done.returncode == 1 and len(rounds) == 7, done.stdout + done.stderr
    assert done.stdout.count("550 no") == 2, "after the first round and at the end"
    done = call_cli(*run, cwd=tmp_path)
    assert done.returncode == 0 and len(list((tmp_path / "bucket" / "r" / "rounds").iterdir())) == 7


@pytest.mark.slow
@pytest.mark.usefixtures("rounds_here", "report_here")
def test_a_run_goes_on_elsewhere(tmp_path: Path) -> None:
    """The first machine is gone with its disk; the second takes in its rounds and measures the rest."""
    bucket = f"file://{tmp_path}/bucket/r"
    run = ("run", str(FIXTURES / "numpy.yaml"), "--run-id", "r", "--mirror", bucket)
    first, second, third = (tmp_path / name for name in ("first", "second", "third"))
    for folder in (first, second, third):
        folder.mkdir()
    done = call_cli(*run, "--only", "numpy", cwd=first)
    assert done.returncode == 0, done.stdout + done.stderr
    measured = {r.name: r.sha256 for r in RunStore(first / "outputs" / "runs" / "r").rounds()}
    shutil.rmtree(first)
    done = call_cli(*run, cwd=second)
    assert done.returncode == 0, done.stdout + done.stderr
    rounds = {r.name: r.sha256 for r in RunStore(second / "outputs" / "runs" / "r").rounds()}
    assert measured.items() <= rounds.items() and len(rounds) == 7
    done = call_cli("report", bucket, cwd=third)
    assert done.returncode == 0 and report_of(third / "outputs" / "runs" / "r"), done.stderr
