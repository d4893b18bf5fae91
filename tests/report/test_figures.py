"""What the drawings say: no two sides alike, every verdict in its word, nothing drawn that is not known."""

from __future__ import annotations

import re

from scorematrix.compare import compare_run
from scorematrix.report.drawing import look
from scorematrix.report.forest import forest
from tests.factory import make_params, make_run

BACKENDS = [
    {"backend": "jax", "views": ["portable", "best_native"]},
    {"backend": "pytorch", "views": ["portable", "best_native"]},
    {"backend": "transformers", "views": ["packed", "expanded_cache"]},
    {"backend": "llama-cpp", "views": ["shared_prefix"]},
    {"backend": "vllm-cpu", "views": ["prefix_cache"]},
]


def test_no_two_sides_look_alike() -> None:
    params = make_params(backends=BACKENDS, comparisons=[{"jax": "cpu", "pytorch": "cpu"}])
    looks = [tuple(look(side).items()) for side in compare_run(*make_run(params)).sides]
    assert len(looks) == 8 and len(set(looks)) == 8


def test_every_verdict_stands_in_the_forest_and_only_known_effects_are_drawn() -> None:
    comparison = compare_run(*make_run(seconds=lambda b, i, c: (2.0 + 4.0 / c) * (1.3 if b == "jax" else 1.0)))
    drawing = forest(comparison).html
    assert re.search(r"CPU, portable[^<]*PYTORCH[^<]*0\.769", drawing)
    assert re.search(r"GPU G4, RTX PRO 6000, portable[^<]*DEFERRED", drawing)
    words = [word for word in ("JAX", "PYTORCH", "TIE", "UNDECIDED", "DEFERRED") if f">{word}</text>" in drawing]
    assert words == ["PYTORCH", "DEFERRED"] and drawing.count("<pattern") == 1
