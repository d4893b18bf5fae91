"""Whatever happens to the files of a run: it is refused and the file named, or the verdicts are the same.

`SCOREMATRIX_FUZZ=2000` tries so many, at random; without it, a few hundred that are always the same.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from scorematrix.compare import compare_run
from scorematrix.results import Cell, RunStore
from scorematrix.results.files import utc_now
from tests.factory import changed, make_params, write_run

N_TRIED = int(os.environ.get("SCOREMATRIX_FUZZ", "0"))


@dataclass(frozen=True)
class Folders:
    """A run, an older state of it, another run of the same params, and one of others."""

    run: Path
    older: Path
    twin: Path
    foreign: Path

    @property
    def verdicts(self) -> list:
        return judged(self.run)


def slower(cell: Cell) -> Cell:
    call_ns = [[[2 * ns for ns in call] for call in request] for request in cell.call_ns]
    return cell.model_copy(update={"call_ns": call_ns})


def judged(folder: Path) -> list:
    store = RunStore(folder)
    found = compare_run(store.manifest(), store.workload(), store.readiness(), store.rounds())
    return [(one.view, one.verdict, one.effect and round(one.effect.ratio, 9)) for one in found.contrasts] + [
        store.readiness().states
    ]


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Folders:
    """The older state has first tries of two rounds, which the run has measured again."""
    base = tmp_path_factory.mktemp("runs")
    older = write_run(base / "run", seconds=lambda b, i, c: (2.0 if b == "jax" else 1.0) + i / 1000)
    names = [r.name for r in older.rounds() if r.role == "confirm"][:2]
    for round_ in older.rounds():
        older.note("begun", round_.name)
        older.write_round(changed(round_, started_utc=utc_now(), finished_utc=utc_now()))
        older.note_end(round_)
    shutil.copytree(older.folder, base / "older")
    for name in names:
        older.note("begun", name)
        cells = [slower(cell) for cell in older.round(name).cells]
        again = changed(older.round(name), tries=older.earlier_tries(name), cells=cells)
        older.drop_round(name)
        older.write_round(again)
        older.note_end(again)
    twin = write_run(base / "twin", seconds=lambda b, i, c: (1.0 if b == "jax" else 2.0) + i / 1000, run_id="twin")
    params = make_params(margin=0.5)
    foreign = write_run(base / "foreign", params=params, seconds=lambda b, i, c: 1.0 if b == "jax" else 2.0)
    return Folders(base / "run", base / "older", twin.folder, foreign.folder)


@st.composite
def faults(draw: st.DrawFn) -> tuple:
    kind = draw(st.sampled_from(["bytes", "cut", "emptied", "copied", "renamed", "swapped", "from", "folder"]))
    files = st.sampled_from(["run.json", "workload.json", "readiness.json", *["round"] * 5])
    numbers, source = st.integers(0, 10**6), draw(st.sampled_from(["older", "twin", "foreign"]))
    return kind, draw(files), draw(numbers), draw(numbers), draw(st.binary(min_size=1, max_size=3)), source


def damage(folders: Folders, folder: Path, fault: tuple) -> list[str]:
    """Apply a fault; return the names of the files it touched."""
    kind, which, one, other, put, source = fault
    rounds = sorted((folder / "rounds").iterdir())
    path = rounds[one % len(rounds)] if which == "round" else folder / which
    data = path.read_bytes()
    if kind == "bytes":
        at = other % len(data)
        path.write_bytes(data[:at] + put + data[at + len(put) :])
    elif kind == "cut":
        path.write_bytes(data[: other % len(data)])
    elif kind == "emptied":
        path.write_bytes(b"")
    elif kind == "copied":
        copy = path.with_name(f"{path.stem} (1).json" if other % 2 else rounds[other % len(rounds)].name)
        if copy == path:
            return []
        copy.write_bytes(data)
        return [copy.name]
    elif kind == "renamed":
        path.rename(path.with_name(f"x{path.name}"))
        return [path.name, f"x{path.name}"]
    elif kind == "swapped":
        second = rounds[other % len(rounds)]
        path.write_bytes(second.read_bytes())
        second.write_bytes(data)
        return [path.name, second.name]
    elif kind == "from":
        origin = getattr(folders, source) / path.relative_to(folder)
        path.write_bytes(origin.read_bytes())
        if which == "run.json":  # rounds and workload are then named as those of another run
            return [path.name, "rounds/", "workload.json"]
    else:
        path.unlink()
        path.mkdir()
    return [path.name]


@settings(max_examples=N_TRIED or 250, derandomize=not N_TRIED, deadline=None, database=None,
          suppress_health_check=list(HealthCheck))  # fmt: skip
@given(fault=faults())
def test_refused_by_name_or_the_same_verdicts(folders: Folders, fault: tuple) -> None:
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(shutil.copytree(folders.run, Path(scratch) / "run"))
        touched = damage(folders, folder, fault)
        try:
            found = judged(folder)
        except ValueError as error:
            assert any(name in str(error) for name in touched), (touched, str(error))
        else:
            assert found == folders.verdicts, touched
