"""What `scorematrix audit` searches for, a run finds in its own calls: who lies in one of these ways wins nothing."""

from __future__ import annotations

import functools
from pathlib import Path

import numpy as np
import pytest

from scorematrix.workload import Workload, WorkloadRequest
from tests.faults.cheating import Faster, answering
from tests.faults.search_lies import SEARCH_LIES
from tests.faults.test_search import LIES, wrong_after
from tests.faults.whole_run import Trial

pytestmark = pytest.mark.usefixtures("quick_collections")
N_ITEMS = 145
SHORT = {"chunk_sizes": [N_ITEMS], "rounds": 2, "passes": 3}
NOT_HERE = {
    "a prefix cache by a weak hash", "an item cache", "as many items as labels", "positions end", "single tokens",
    "the previous answer every nth call", "a refused request", "an earlier request of the same lengths",
    "the mode of the request before", "items longer than the query", "cached by query and first item",
    "consecutive items of equal length, form 1", "a prefix cache by the first tokens, form 1",
    "ties are not unsorted, form 1", "a cold program, form 0", "after a large call, form 1",
    "an item like the query, form 2", "the query of the request before, form 1", "wrong after 200 calls",
}  # fmt: skip
"""They depend on what this workload or so short a run does not have: every timed answer is right."""
FORMS = {
    name: lie
    for name, lie in [
        *LIES.items(),
        ("wrong after 2 calls", lambda: wrong_after(2)),
        *(
            (f"{name}, form {form}", lie)
            for name, forms in SEARCH_LIES.items()
            if name not in NOT_HERE
            for form, lie in enumerate(forms)
        ),
    ]
    if name not in NOT_HERE
}


@functools.cache
def large() -> Workload:
    """Return two queries with as many and as long items, and as many labels, as the lies depend on.

    The queries begin alike. Items are equal, of equal tokens in another order, or like the query; ids are special.
    """
    rng = np.random.default_rng(6)
    lengths = [141, *rng.integers(1, 40, N_ITEMS - 1)]
    requests = []
    for q in range(2):
        query = rng.integers(0, 400, 441).tolist()
        query[:40] = requests[0].query_ids[:40] if q else [1, 255, 7, 7, *query[4:40]]
        items = [rng.integers(0, 400, n).tolist() for n in lengths]
        items[-7:] = [
            [3, 9, 9],
            items[3],
            items[4][::-1],
            items[5][:2] + items[6],
            query[-9:],
            query[:7],
            [255, 3, 3, 2],
        ]
        labels = rng.permutation(sorted({0, 255, query[-1], *range(300, 360)})).tolist()
        requests.append(WorkloadRequest(id=f"q{q}", query_ids=query, label_ids=labels, items_ids=items))
    return Workload(name="w", origin="tests", apply_softmax=True, tokenizer_sha256=None, requests=requests)


def test_the_same_run_without_a_lie_has_a_winner(tmp_path: Path) -> None:
    params = SHORT | {"rounds": 5, "passes": 9}
    (contrast,) = Trial(tmp_path, params=params, sides={"pytorch": Faster}, scored=large()).run().contrasts
    assert contrast.verdict == "pytorch", contrast.sentence


@pytest.mark.parametrize("name", FORMS)
def test_no_winner(name: str, tmp_path: Path) -> None:
    lying = answering(FORMS[name])
    (contrast,) = Trial(tmp_path, params=SHORT, sides={"pytorch": lying}, scored=large()).run().contrasts
    assert lying.n_wrong, "no timed answer of this run is wrong: it belongs into NOT_HERE"
    failed = [gate.name for gate in contrast.gates if gate.status == "failed"]
    assert contrast.verdict == "invalid" and failed, (contrast.sentence, failed)
