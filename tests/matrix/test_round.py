"""What a round sets out to measure."""

from __future__ import annotations

from pathlib import Path

import pytest

from scorematrix.matrix.plan import plan_rounds
from scorematrix.matrix.round import REFERENCE_CHUNK, _Draft
from scorematrix.workload import Workload
from tests.factory import make_params, make_workload, write_run


def with_items(n: int) -> Workload:
    made = make_workload()
    request = made.requests[0].model_copy(
        update={"items_ids": [[10 + i] for i in range(n)], "item_texts": None, "gold": None}
    )
    return made.model_copy(update={"requests": [request]})


@pytest.mark.parametrize(("n_items", "expected"), [(3, 3), (500, REFERENCE_CHUNK)])
def test_the_reference_is_asked_in_short_calls(n_items: int, expected: int, tmp_path: Path) -> None:
    """One call of 500 long items would outlast any limit on a call, and the whole run would be without scores."""
    params = make_params()
    planned = plan_rounds(params)[0]
    draft = _Draft(write_run(tmp_path / "run"), planned, params, with_items(n_items))
    draft.watchdog.close()
    assert planned.role == "reference" and draft.chunk_sizes == [expected]
