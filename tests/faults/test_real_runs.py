"""A real run, with processes and notebooks, of a scorer that lies. `real_runs.py` makes one of every kind of lie."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.faults.real_runs import SOUND, run

pytestmark = [pytest.mark.slow, pytest.mark.chaos]


def test_a_lie_in_a_real_run_wins_nothing(tmp_path: Path) -> None:
    """It transposes the scores of as many items as labels."""
    for name, found in run(["as many items as labels, form 0", SOUND], tmp_path).items():
        is_sound = name == SOUND
        assert (found.n_wrong == 0) is is_sound and (found.verdict != "invalid") is is_sound, (name, found)
        assert is_sound or "reference" in found.failed, (name, found)
