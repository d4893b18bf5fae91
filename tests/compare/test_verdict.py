"""Which evidence leads to which verdict."""

from __future__ import annotations

import re

import numpy as np
import pytest

from scorematrix.compare import compare_run
from scorematrix.compare.statistics import Interval, geometric_interval
from scorematrix.compare.verdict import judge, margin_words, percent
from scorematrix.results.schema import MOST_ROUNDS
from tests.factory import equal_seconds, make_params, make_run

ONE = {"comparisons": [{"jax": "cpu", "pytorch": "cpu"}]}


def slower(backend: str, factor: float):
    return lambda b, i, c: equal_seconds(b, i, c) * (factor if b == backend else 1.0)


def noisy(backend: str, factor: float, scatter: float):
    def seconds(b: str, i: int, c: int) -> float:
        return equal_seconds(b, i, c) * (factor if b == backend else 1.0) * np.exp(scatter * (-1) ** i * (b == backend))

    return seconds


@pytest.mark.parametrize(
    ("seconds", "verdict", "words"),
    [
        (slower("jax", 1.10), "pytorch", "PyTorch is 1.10 times as fast as JAX"),
        (slower("pytorch", 1.10), "jax", "JAX is 1.10 times as fast as PyTorch"),
        (slower("jax", 1.0), "tie", "a tie"),
        (slower("jax", 1.01), "tie", "a tie"),
        (slower("jax", 1.03), "not_enough_evidence", "crosses the 3% margin"),
        (noisy("jax", 1.10, 0.1), "not_enough_evidence", "more rounds would decide"),
        (noisy("jax", 1.10, 0.2), "not_enough_evidence", "quieter machine"),
    ],
)
def test_verdict(seconds, verdict: str, words: str) -> None:
    (contrast,) = compare_run(*make_run(make_params(**ONE), seconds=seconds)).contrasts
    assert contrast.verdict == verdict
    assert words in contrast.sentence


@pytest.mark.parametrize(
    ("center", "low", "sd_log", "advised"),
    [(1.06, 0.97, 0.01, "--until-decided"), (1.06, 0.97, 0.06, "rounds="), (1.06, 0.8, 0.3, "quieter machine"),
     (1.03, 1.02, 0.01, "treat as close")],
)  # fmt: skip
def test_the_next_step_asks_for_no_more_rounds_than_a_run_can_have(
    center: float, low: float, sd_log: float, advised: str
) -> None:
    interval = Interval(center, low, center**2 / low, 5, sd_log)
    verdict = judge(missing_sides=[], gates=[], interval=interval, missing_rounds=0, margin=0.03)
    assert verdict.state == "not_enough_evidence" and advised in verdict.next_step
    rounds = re.search(r"rounds=(\d+)", verdict.next_step)
    assert (rounds is None) == (verdict.more_rounds is None) == (advised in ("quieter machine", "treat as close"))
    assert rounds is None or int(rounds[1]) <= MOST_ROUNDS


def test_four_rounds_do_not_decide() -> None:
    run = make_run(make_params(**ONE), seconds=slower("jax", 2.0), keep=lambda p: p.index < 5)
    comparison = compare_run(*run)
    (contrast,) = comparison.contrasts
    assert contrast.verdict == "not_enough_evidence"
    assert contrast.more_rounds == 1
    low, high = contrast.effect.inverse.low, contrast.effect.inverse.high
    so_far = f"JAX's speed is 0.50 times PyTorch's ({low:.2f} to {high:.2f}, 4 rounds, too few to decide)"
    assert so_far in contrast.sentence, "the interval of the table"
    assert comparison.partial


def test_missing_side_defers_with_reason_and_next_step() -> None:
    comparison = compare_run(*make_run(seconds=slower("jax", 2.0)))
    cpu, system = comparison.contrasts
    assert (cpu.verdict, cpu.kind) == ("pytorch", "framework")
    assert (system.verdict, system.kind) == ("deferred", "system")
    assert "nvidia-smi is not on PATH" in system.reason and "g4-standard-48" in system.next_step
    assert "PyTorch is" not in system.sentence and "JAX is" not in system.sentence
    assert [n.target for n in comparison.notices] == ["tpu-v6e-1", "gpu-g4"]


def test_chunk_is_chosen_on_tuning_and_estimated_on_confirmation() -> None:
    """Chunk 4 shines in the tuning round only; its confirmation times must be the ones that count."""

    def seconds(b: str, i: int, c: int) -> float:
        return 0.1 if (b, i, c) == ("jax", 0, 4) else equal_seconds(b, i, c) * (1.3 if (b, c) == ("jax", 4) else 1.0)

    (contrast,) = compare_run(*make_run(make_params(**ONE), seconds=seconds)).contrasts
    assert contrast.first.chunk == 4 and contrast.second.chunk == 8
    assert contrast.effect.ratio > 1.5
    # At chunk 8 they would tie: what a disturbed tuning round chose must not name the winner.
    assert contrast.verdict == "invalid" and "gate choice" in contrast.reason


def test_equal_chunks_go_to_the_smaller() -> None:
    (contrast,) = compare_run(*make_run(make_params(**ONE), seconds=lambda b, i, c: 2.0 + i / 100)).contrasts
    assert contrast.first.chunk == contrast.second.chunk == 4


def test_matched_rows_are_never_averaged_when_incomplete() -> None:
    comparison = compare_run(*make_run())
    assert comparison.contrasts[0].matched_ratio == pytest.approx(1.0, abs=0.02)
    assert comparison.contrasts[1].matched_ratio is None


def test_empty_run_names_nobody() -> None:
    comparison = compare_run(*make_run(keep=lambda p: False))
    assert [c.verdict for c in comparison.contrasts] == ["not_enough_evidence", "deferred"]
    assert comparison.partial


def test_no_outlier_is_dropped() -> None:
    """One round of five takes ten times as long: it is in the mean, and in the interval, which grows."""
    run = make_run(make_params(**ONE), seconds=lambda b, i, c: 10.0 if b == "jax" and i == 3 else 1.0)
    (contrast,) = compare_run(*run).contrasts
    assert contrast.effect.n_rounds == 5 and contrast.effect.ratio == pytest.approx(10 ** (1 / 5))
    assert contrast.effect.low < 1 < contrast.effect.high and contrast.verdict == "not_enough_evidence"


@pytest.mark.parametrize(("margin", "names_both"), [(0.03, False), (0.0303, False), (0.11, True)])
def test_a_margin_is_called_widened_only_where_the_reader_sees_it(margin: float, names_both: bool) -> None:
    words = margin_words(margin, 0.03)
    assert percent(margin) in words and ("widened" in words) == names_both
    interval = geometric_interval([1.0, 1.1, 1.05, 1.02, 0.99])
    found = judge(missing_sides=[], gates=[], interval=interval, missing_rounds=0, margin=margin, tie_margin=0.03)
    assert found.state == "not_enough_evidence" and ("A/A" in (found.next_step or "")) == names_both
    assert (found.next_step or "").count("quieter machine") <= 1
