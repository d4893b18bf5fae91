"""The journal of a run folder: what was begun, how it ended, and what a round says of the tries before it."""

from __future__ import annotations

from pathlib import Path

import pytest

from scorematrix.results import RunStore, StorageFailed
from tests.conftest import FIXTURES, call_cli

NAME = "jax.portable.cpu.r01"


def outcomes(store: RunStore, *events: str) -> list[str]:
    for event in events:
        store.note(event, NAME)
        store.note(event, "another")
    return [one.outcome for one in store.earlier_tries(NAME)]


@pytest.mark.parametrize(
    ("events", "expected"),
    [
        (["begun"], []),
        (["begun", "sound"], ["sound"]),
        (["begun", "begun"], ["unfinished"]),
        (["begun", "failed", "begun", "sound", "begun"], ["failed", "sound"]),
        (["begun", "lost", "begun"], ["lost"]),
        (["begun", "sound", "lost", "begun"], ["lost"]),  # its group was begun anew
    ],
)
def test_tries_are_what_came_to_an_end(tmp_path: Path, events: list[str], expected: list[str]) -> None:
    assert outcomes(RunStore(tmp_path), *events) == expected


def test_nothing_is_rewritten_and_a_line_that_was_cut_off_costs_itself_only(tmp_path: Path) -> None:
    store = RunStore(tmp_path)
    assert store.journal() == []
    outcomes(store, "begun", "sound")
    path = tmp_path / "journal.jsonl"
    before = path.read_text()
    path.write_text(before + '{"at_utc": "2026-')
    assert outcomes(store, "begun") == ["sound"]
    assert path.read_text().startswith(before) and len(store.journal()) == 6


def test_a_folder_that_takes_no_line_is_named(tmp_path: Path) -> None:
    with pytest.raises(StorageFailed, match="journal.jsonl"):
        RunStore(tmp_path / "gone").note("begun", NAME)


@pytest.mark.slow
@pytest.mark.usefixtures("rounds_here")
def test_a_round_that_was_deleted_and_measured_again_says_so(tmp_path: Path) -> None:
    here = "comparisons=[{numpy: cpu, numpy-per-item: cpu}]"
    command = ("run", str(FIXTURES / "numpy.yaml"), "--run-id", "r", "--set", here)
    assert call_cli(*command, cwd=tmp_path).returncode == 0
    store = RunStore(tmp_path / "outputs" / "runs" / "r")
    names = [r.name for r in store.rounds()]
    assert all([e.event for e in store.journal() if e.round == name] == ["begun", "sound"] for name in names)
    name = names[-1]
    store.round_path(name).unlink()
    again = call_cli(*command, cwd=tmp_path)
    assert [one.outcome for one in store.round(name).tries] == ["sound"]
    assert all(r.tries == [] for r in store.rounds() if r.name != name)
    assert f"{name} (before: sound)" in again.stdout.replace("\n", " ")
