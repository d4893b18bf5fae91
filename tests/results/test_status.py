"""Where a run is, read off its folder: done, now, time left, the last figure; and at any moment a partial report."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from scorematrix.compare import compare_run
from scorematrix.matrix import prepare_run
from scorematrix.report.progress import last_words, left_words, span_words, status_rows
from scorematrix.report.terminal import closing_lines
from scorematrix.results import RunStore
from scorematrix.results.status import RunFollower, RunStatus
from tests.factory import changed, make_params, write_run

LOCAL = {"comparisons": [{"jax": "cpu", "pytorch": "cpu"}], "controls": False}
START = "2026-01-01T00:"
NOW = datetime(2026, 1, 1, 1, 0, 0, tzinfo=UTC)
SECONDS = {"reference": 40, "tuning": 30, "confirm": 20}


def make(folder: Path, n_rounds: int, **params: object) -> RunStore:
    """The first rounds of a run, one a minute by the clock: each takes the seconds of its role, the rest is a start."""
    plan = make_params(**{"rounds": 2, **LOCAL, **params})
    edit = lambda r: changed(  # noqa: E731
        r,
        started_utc=f"{START}{r.position:02d}:00+00:00",
        finished_utc=f"{START}{r.position:02d}:{SECONDS[r.role]:02d}+00:00",
    )
    return write_run(folder, params=plan, keep=lambda p: p.position < n_rounds, edit=edit)


TIME_LEFT = {  # rounds: reference, jax and pytorch tuning, then two confirmation rounds of each
    0: (7, None, 7),  # nothing is known
    1: (6, None, 6),  # the reference is no kind that is left
    3: (4, None, 4),  # nor are tuning rounds
    4: (3, 1, 2),  # one side's kind is known
    5: (2, 2, 0),
    6: (1, 1, 0),
    7: (0, None, 0),
}


@pytest.mark.parametrize("n_rounds", TIME_LEFT)
def test_time_left_is_told_of_kinds_that_were_measured(tmp_path: Path, n_rounds: int) -> None:
    left, told, unknown = TIME_LEFT[n_rounds]
    status = RunFollower(make(tmp_path, n_rounds)).look(NOW)
    assert (status.total, status.total - status.done, status.unknown_rounds) == (7, left, unknown)
    # Starts take 20 s after the reference, 30 s after tuning, 40 s after confirmation; their median, with 20 s each.
    starts = {4: 30, 5: 30, 6: 30}
    assert status.seconds_left == (None if told is None else told * (20 + starts[n_rounds]))
    words = left_words(status)
    assert ("unknown" in words) == (told is None)
    assert (status.current is None) == (left == 0)
    if told and unknown:
        assert words.startswith(f"more than {span_words(status.seconds_left)}") and " 2 rounds" in words


def test_a_run_is_followed_while_papermill_is_in_another_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make(tmp_path / "r", 4)
    monkeypatch.chdir(tmp_path)
    follower = RunFollower(RunStore("r"))
    assert follower.look(NOW).done == 4
    monkeypatch.chdir("/")
    assert follower.look(NOW).done == 4


def test_a_run_that_may_end_early_says_at_most(tmp_path: Path) -> None:
    status = RunFollower(make(tmp_path, 6, max_rounds=4)).look(NOW)
    assert status.total == 11 and left_words(status).startswith("at most")


def test_the_cell_that_is_measured_now_is_read_off_the_draft(tmp_path: Path) -> None:
    store = make(tmp_path, 5)
    follower = RunFollower(store)
    assert dict(status_rows(follower.look(NOW)))["now"].endswith("starting, loading, compiling")
    planned = follower.look(NOW).current
    whole = store.round("jax.portable.cpu.r01").model_dump(exclude={"sha256"})
    pending = {"chunk_size": 8, "status": "not_run", "error": "", "scores": [], "call_ns": [], "warmup_ns": []}
    draft = type(store.round("jax.portable.cpu.r01"))(
        **(whole | planned.model_dump() | {"cells": [whole["cells"][0], pending], "started_utc": "2026-01-01T00:59:48"
           "+00:00"}))  # fmt: skip
    before = follower.look(NOW).seconds_left
    store.write_draft(draft)
    status = follower.look(NOW)
    assert (status.measuring, status.cells_done, status.cells) == (8, 1, 2)
    assert "chunk 8, 1 of 2 cells done" in dict(status_rows(status))["now"]
    assert status.seconds_left == before - 12, "what the round has taken already is gone"
    assert status.side_by_side(3).seconds_left == status.seconds_left / 3, "three machines at a time"
    store.write_round(draft)
    assert follower.look(NOW).done == 6


def test_last_figure_stands_beside_the_other_sides_and_names_nobody(tmp_path: Path) -> None:
    status = RunFollower(make(tmp_path, 5)).look(NOW)
    words = last_words(status.last)
    assert status.last.other in ("jax", "pytorch") and status.last.other != status.last.backend
    assert "no verdict" in words and "faster" not in words
    # At chunk 8 a pass over 16 items takes 2.5 s.
    assert status.last.items_per_second == pytest.approx(16 / 2.5, rel=0.01)


def test_a_failed_round_is_told_in_words(tmp_path: Path) -> None:
    store = make(tmp_path, 5)
    last = max(store.rounds(), key=lambda r: r.position)
    cells = [{"chunk_size": c.chunk_size, "status": "failed", "error": "boom"} for c in last.cells]
    store.write_round(changed(last, cells=cells, error="boom"))
    last = RunFollower(store).look(NOW).last
    assert last.items_per_second is None and "failed: boom" in last_words(last)


def test_an_unread_machine_is_not_zero_rounds_left(tmp_path: Path) -> None:
    store = RunStore(tmp_path / "r")
    prepare_run(make_params(), store)
    status = RunFollower(store).look(NOW)
    assert status.total == 0 and dict(status_rows(status))["done"] == "looking at this machine"


@pytest.mark.parametrize("n_rounds", range(7))
def test_a_run_that_goes_on_can_be_judged_at_any_moment(tmp_path: Path, n_rounds: int) -> None:
    store = make(tmp_path, n_rounds)
    with store.lock():
        assert store.in_use()
        comparison = compare_run(store.manifest(), store.workload(), store.readiness(), store.rounds())
        assert comparison.partial and closing_lines(comparison)[0].startswith(f"PARTIAL: {n_rounds} of 7")
    assert not store.in_use()


def test_a_run_that_has_only_begun_can_be_judged(tmp_path: Path) -> None:
    store = RunStore(tmp_path / "r")
    assert not store.in_use()
    prepare_run(make_params(), store)
    comparison = compare_run(store.manifest(), store.workload(), store.readiness(), store.rounds())
    assert comparison.partial and {c.verdict for c in comparison.contrasts} == {"not_enough_evidence"}


def test_span_in_words() -> None:
    table = {0: "0 s", 89: "89 s", 90: "2 min", 5399: "1 h 30 min", 7500: "2 h 05 min"}
    assert {seconds: span_words(seconds) for seconds in table} == table


def test_status_is_plain_data() -> None:
    status = RunStatus(1, 2, None, None, 0, 0, None, 0, False, None)
    assert status_rows(status) == [("done", "1 of 2 rounds")]
