"""What `scorematrix audit` searches for, a run finds in its own calls: who lies in one of these ways wins nothing."""

from __future__ import annotations

import functools
from pathlib import Path

import numpy as np
import pytest

from scorematrix.workload import Workload, WorkloadRequest
from tests.faults.cheating import Faster, answering
from tests.faults.test_search import LIES, wrong_after
from tests.faults.whole_run import Trial

pytestmark = pytest.mark.usefixtures("quick_collections")
N_ITEMS = 130
SHORT = {"chunk_sizes": [N_ITEMS], "rounds": 2, "passes": 3}


@functools.cache
def large() -> Workload:
    """Return one query of as many and as long items, and as many labels, as the lies depend on; two items are equal."""
    rng = np.random.default_rng(6)
    items = [rng.integers(0, 400, n).tolist() for n in rng.integers(1, 40, N_ITEMS)]
    items[-1], items[-2] = rng.integers(0, 400, 140).tolist(), items[3]
    request = WorkloadRequest(
        id="q0", query_ids=rng.integers(1, 400, 300).tolist(), items_ids=items, label_ids=list(range(100, 140))
    )
    return Workload(name="w", origin="tests", apply_softmax=True, tokenizer_sha256=None, requests=[request])


def test_the_same_run_without_a_lie_has_a_winner(tmp_path: Path) -> None:
    params = SHORT | {"rounds": 5, "passes": 9}
    (contrast,) = Trial(tmp_path, params=params, sides={"pytorch": Faster}, scored=large()).run().contrasts
    assert contrast.verdict == "pytorch", contrast.sentence


IN_RUNS = {name: lie for name, lie in LIES.items() if "200 calls" not in name} | {
    "wrong after 2 calls": lambda: wrong_after(2),  # a process of this run makes a few
}


@pytest.mark.parametrize("name", IN_RUNS)
def test_no_winner(name: str, tmp_path: Path) -> None:
    trial = Trial(tmp_path, params=SHORT, sides={"pytorch": answering(IN_RUNS[name])}, scored=large())
    (contrast,) = trial.run().contrasts
    failed = [gate.name for gate in contrast.gates if gate.status == "failed"]
    assert contrast.verdict == "invalid" and failed, (contrast.sentence, failed)
