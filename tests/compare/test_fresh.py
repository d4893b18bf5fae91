"""How far two sides' scores of drawn tokens may be apart: as rounding sets honest ones, whatever the probabilities."""

from __future__ import annotations

import numpy as np
import pytest

from scorematrix.compare import compare_run
from scorematrix.compare.schema import Gate
from scorematrix.results import Round
from scorematrix.results.cells import Turn
from tests.factory import changed, make_params, make_run

ONE = {"comparisons": [{"jax": "cpu", "pytorch": "cpu"}]}
RNG = np.random.default_rng(4)
LIKELY, UNLIKELY, OTHER_UNLIKELY = RNG.uniform(0.1, 0.9, (8, 2)), *RNG.lognormal(-12, 1.5, (2, 8, 2))


def drawn_gate(jax: np.ndarray, pytorch: np.ndarray, dtype: str) -> Gate:
    def edit(round_: Round) -> Round:
        scores = (jax if round_.backend == "jax" else pytorch).tolist()
        turn = Turn(pass_index=0, request=0, lap=0, place=0, fresh_seed=7, fresh_scores=scores)
        cells = [cell.model_copy(update={"turns": [turn]}) for cell in round_.cells]
        record = (round_.model_dump()["record"] or {}) | {"dtype": dtype}
        return changed(round_, cells=cells, group=f"g{round_.index}", record=record)

    (contrast,) = compare_run(*make_run(make_params(**ONE), edit=edit)).contrasts
    (gate,) = (gate for gate in contrast.gates if gate.name == "drawn tokens")
    return gate


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
    gate = drawn_gate(first, second, dtype)
    assert gate.status == status, gate.detail
    if status == "failed":
        assert any(gate.found[name] > gate.allowed[name] for name in gate.allowed)
