"""A winner among several questions: the correction takes away what chance could have given, and says so."""

from __future__ import annotations

import numpy as np
import pytest

from scorematrix.compare import compare_run
from tests.factory import changed, make_cell, make_params, make_run

SPREAD = (-1.0, -0.5, 0.0, 0.5, 1.0)
BACKENDS = [{"backend": name, "views": ["portable", "best_native"]} for name in ("jax", "pytorch")]


def ratio_of(view: str, index: int, center: dict[str, float]) -> float:
    """JAX over PyTorch in a round: an effect of `center` with a scatter of 3 %."""
    return float(np.exp(center[view] + 0.03 * SPREAD[index % 5]))


def judged(center: dict[str, float]):
    def edit(r):
        if r.backend != "jax" or r.role == "reference":
            return r
        factor = ratio_of(r.view, r.index, center)
        cells = [make_cell(factor * c.slowdown, c.chunk_size, slowdown=c.slowdown) for c in r.cells]
        return changed(r, cells=[cell.model_dump() for cell in cells])

    params = make_params(backends=BACKENDS, comparisons=[{"jax": "cpu", "pytorch": "cpu"}])
    contrasts = compare_run(*make_run(params, seconds=lambda b, i, c: 1.0, edit=edit)).contrasts
    return {contrast.view: contrast for contrast in contrasts}


@pytest.mark.parametrize(
    ("portable", "best_native", "verdicts"),
    [
        (0.065, 0.0, ["not_enough_evidence", "tie"]),  # a win alone, not beside a second question
        (0.20, 0.0, ["pytorch", "tie"]),
        (0.20, 0.065, ["pytorch", "pytorch"]),  # the clear one is out of the way first
    ],
)
def test_wins_must_survive_the_family(portable: float, best_native: float, verdicts: list[str]) -> None:
    found = judged({"portable": portable, "best_native": best_native})
    assert [found[view].verdict for view in ("portable", "best_native")] == verdicts
    assert all(contrast.p_adjusted is not None for contrast in found.values())
    weak = found["portable"]
    if verdicts[0] == "not_enough_evidence":
        assert weak.effect.low > 1.03, "alone it would be a win"
        assert "Holm" in weak.reason and "JAX is" not in weak.sentence and "PyTorch is" not in weak.sentence


def test_scatter_is_warned_of() -> None:
    params = make_params(comparisons=[{"jax": "cpu", "pytorch": "cpu"}])
    calm = compare_run(*make_run(params))
    wild = compare_run(*make_run(params, seconds=lambda b, i, c: 1.0 + 0.5 * (i % 2) * (b == "jax")))
    assert not [w for w in calm.warnings if "scatter" in w]
    (warning,) = [w for w in wild.warnings if "scatter" in w]
    assert "2 cells" in warning and "jax portable on cpu, chunk 4" in warning and "pytorch" not in warning
