"""How far two sides' scores of drawn tokens may be apart: as rounding sets honest ones, whatever the probabilities."""

from __future__ import annotations

import numpy as np
import pytest

from scorematrix.compare import compare_run
from scorematrix.compare.schema import Gate
from scorematrix.results import ReferenceSample, Round
from scorematrix.results.cells import Turn
from tests.factory import changed, make_params, make_run

ONE = {"comparisons": [{"jax": "cpu", "pytorch": "cpu"}]}
RNG = np.random.default_rng(4)
LIKELY, UNLIKELY, OTHER_UNLIKELY = RNG.uniform(0.1, 0.9, (8, 2)), *RNG.lognormal(-12, 1.5, (2, 8, 2))


def gates(answers: dict[str, np.ndarray], dtype: str = "float32", sampled: np.ndarray | None = None) -> dict[str, Gate]:
    """Those on drawn tokens, of a run in which each backend answers them so.

    Args:
        sampled: what the reference makes of items 1 and 6 in the first confirmation round.
    """

    def edit(round_: Round) -> Round:
        if round_.role == "reference":
            known = {"index": 1, "request": 0, "seed": 7, "items": [1, 6]}
            samples = [] if sampled is None else [ReferenceSample(**known, scores=sampled.tolist())]
            return changed(round_, samples=[sample.model_dump() for sample in samples])
        turn = Turn(
            pass_index=0, request=0, lap=0, place=0, fresh_seed=7, fresh_scores=answers[round_.backend].tolist()
        )
        cells = [cell.model_copy(update={"turns": [turn]}) for cell in round_.cells]
        record = (round_.model_dump()["record"] or {}) | {"dtype": dtype}
        return changed(round_, cells=cells, group=f"g{round_.index}", record=record)

    (contrast,) = compare_run(*make_run(make_params(**ONE), edit=edit)).contrasts
    return {gate.name: gate for gate in contrast.gates if gate.name.startswith("drawn tokens")}


@pytest.mark.parametrize(
    ("first", "second", "dtype", "status"),
    [
        (LIKELY, LIKELY + 0.009, "float32", "passed"),
        (LIKELY, LIKELY + np.eye(8, 2) * 0.03, "float32", "failed"),
        (LIKELY, LIKELY + np.eye(8, 2) * 0.03, "bfloat16", "passed"),
        (LIKELY, LIKELY + np.eye(8, 2) * 0.08, "bfloat16", "failed"),
        (LIKELY, LIKELY[::-1], "bfloat16", "failed"),
        (UNLIKELY, UNLIKELY * np.exp(0.04), "bfloat16", "passed"),
        (UNLIKELY, OTHER_UNLIKELY, "bfloat16", "failed"),
        (UNLIKELY, OTHER_UNLIKELY, "float32", "failed"),
        (UNLIKELY, UNLIKELY * 0, "float32", "failed"),
        (UNLIKELY, UNLIKELY * np.nan, "float32", "failed"),
    ],
)
def test_as_far_apart_as_rounding_sets_them(first: np.ndarray, second: np.ndarray, dtype: str, status: str) -> None:
    (gate,) = gates({"jax": first, "pytorch": second}, dtype).values()
    assert gate.status == status, gate.detail
    if status == "failed":
        assert any(gate.found[name] > gate.allowed[name] for name in gate.allowed)


@pytest.mark.parametrize(
    ("dtype", "noise", "status"),
    [
        ("float32", 5e-6, "passed"),
        ("float32", 1e-3, "failed"),
        ("bfloat16", 5e-3, "passed"),
        ("bfloat16", 0.1, "failed"),
    ],
)
def test_sampled_items_are_as_far_from_the_reference_as_their_format_allows(
    dtype: str, noise: float, status: str
) -> None:
    both = {"jax": LIKELY + noise, "pytorch": LIKELY + noise}  # alike, so no comparison of the two would tell
    found = gates(both, dtype, sampled=LIKELY[[1, 6]])
    assert {name: gate.status for name, gate in found.items()} == {
        "drawn tokens": "passed",
        "drawn tokens' scores jax": status,
        "drawn tokens' scores pytorch": status,
    }


def test_improbable_labels_of_another_request_are_told_from_the_references() -> None:
    both = {"jax": UNLIKELY, "pytorch": UNLIKELY}
    assert gates(both, sampled=UNLIKELY[[1, 6]])["drawn tokens' scores jax"].status == "passed"
    assert gates(both, sampled=OTHER_UNLIKELY[[1, 6]])["drawn tokens' scores jax"].status == "failed"
