"""No two sides of a report are drawn alike."""

from __future__ import annotations

from scorematrix.compare import compare_run
from scorematrix.report.figures import _look
from tests.factory import make_params, make_run

BACKENDS = [
    {"backend": "jax", "views": ["portable", "best_native"]},
    {"backend": "pytorch", "views": ["portable", "best_native"]},
    {"backend": "transformers", "views": ["packed"]},
]


def test_no_two_sides_look_alike() -> None:
    params = make_params(backends=BACKENDS, comparisons=[{"jax": "cpu", "pytorch": "cpu"}])
    looks = [tuple(_look(side).items()) for side in compare_run(*make_run(params)).sides]
    assert len(looks) == 5 and len(set(looks)) == 5
