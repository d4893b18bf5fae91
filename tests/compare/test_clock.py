"""A wall clock that is set back or forth between a round's stamps changes no duration."""

from __future__ import annotations

import pytest

from scorematrix.compare import compare_run
from scorematrix.results import Round
from tests.factory import changed, make_run

AT = "2026-01-01T00:00:10+00:00"
STAMPS = [
    # started, finished, seconds on file, what it took
    (AT, "2026-01-01T00:00:22+00:00", None, 12.0),  # an older file
    (AT, "2025-12-31T23:00:10+00:00", None, 0.0),  # an older file, the clock set back
    (AT, "2026-01-01T00:00:22+00:00", 11.6, 11.6),
    (AT, "2025-12-31T23:00:10+00:00", 11.6, 11.6),
    (AT, "2027-01-01T00:00:00+00:00", 11.6, 11.6),
]


@pytest.mark.parametrize(("started", "finished", "on_file", "taken"), STAMPS)
def test_how_long_a_round_took(started: str, finished: str, on_file: float | None, taken: float) -> None:
    *_, rounds = make_run(keep=lambda planned: planned.role == "reference")
    assert changed(rounds[0], started_utc=started, finished_utc=finished, seconds=on_file).taken_seconds == taken


def test_no_spent_time_is_negative_after_the_clock_was_set_back() -> None:
    def set_back(round_: Round) -> Round:
        return changed(round_, started_utc="2026-01-01T01:00:00+00:00", finished_utc="2026-01-01T00:00:10+00:00")

    now, then = compare_run(*make_run(edit=set_back)), compare_run(*make_run())
    assert [side.tuning_seconds for side in now.sides if side.tuning_configurations] == [0.0, 0.0]
    assert [c.verdict for c in now.contrasts] == [c.verdict for c in then.contrasts]
    assert "-" not in next(w for w in [*now.warnings, "0.0 min"] if " min" in w)


def test_a_duration_below_zero_is_refused() -> None:
    *_, rounds = make_run(keep=lambda planned: planned.role == "reference")
    with pytest.raises(ValueError, match="seconds"):
        changed(rounds[0], seconds=-1.0)
