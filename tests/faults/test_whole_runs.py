"""PyTorch is 1.2 times slower than JAX, and cheats or is favoured in whole runs. It must not win."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from scorematrix.compare.schema import Contrast
from scorematrix.report.methods import LIES as LIMITS
from tests.faults import cheating
from tests.faults.whole_run import TRUE_RATIO, Beside, Machine, Scorer, Trial

pytestmark = pytest.mark.usefixtures("quick_collections")


@dataclass(frozen=True)
class Lie:
    """A false advantage for PyTorch.

    Attributes:
        gate: the gate that must fail; None: no gate fails.
        words: what its detail must contain.
        verdict: of the contrast, if no gate fails.
        limit: what the report's limits must contain. Only then PyTorch may win.
    """

    pytorch: type[Scorer] = Scorer
    jax: type[Scorer] = Scorer
    gate: str | None = None
    words: str = ""
    verdict: str = "jax"
    limit: str = ""
    beside: Beside | None = None
    scale: float = 1.0
    params: dict[str, Any] = field(default_factory=dict)


CACHING, DRAWN = "no caching pytorch", "drawn tokens' time pytorch"
CLOCKS, REFERENCE = "clocks pytorch", "reference pytorch"
UNEQUAL = [
    {"backend": "jax", "chunk_sizes": {"portable": [2, 4]}},
    {"backend": "pytorch", "chunk_sizes": {"portable": [4, 8]}},
]
LIES = {
    "lru_cache(maxsize=1) around short calls": Lie(cheating.CacheOfOne, scale=0.005),
    "cache": Lie(cheating.Caching, gate=CACHING),
    "cache filled by prepare": Lie(cheating.CachingPrepared),
    "cache in confirmation rounds": Lie(cheating.CachingInConfirmation, gate=DRAWN),
    "cache keyed by sorted tokens": Lie(cheating.CachingSorted, gate=DRAWN),
    "cache in one round of five": Lie(cheating.CachingInOneRound, verdict="not_enough_evidence"),
    "cache filled from the params' seed": Lie(cheating.CachingFromSeed, gate=CACHING),
    "undeclared prefix cache": Lie(cheating.PrefixCache, gate=CACHING),
    "one clock at a tenth": Lie(cheating.SlowClock, gate=CLOCKS),
    "both clocks at a tenth": Lie(cheating.SlowClocks, gate=CLOCKS),
    "JAX's clocks are fast": Lie(jax=cheating.FastClocks, gate="clocks jax"),
    "clock set back": Lie(cheating.SetBackClock, gate=CLOCKS),
    "clock set back by 1.4 ms": Lie(cheating.SetBackClock, gate=CLOCKS, scale=0.02),
    "lazy array": Lie(cheating.Lazy, gate="calls", words="Array"),
    "work after the clock has stopped": Lie(cheating.Unfinished, gate=CLOCKS),
    "more threads than recorded": Lie(cheating.ExtraThreads, gate="threads pytorch"),
    "work in a detached process": Lie(cheating.DetachedProcess, gate="interference"),
    "busy child during JAX's turns": Lie(gate="interference", beside=cheating.busy_child),
    "work during JAX's turns": Lie(gate="interference", beside=cheating.works_ahead),
    "time independent of the work": Lie(cheating.Constant, gate="growth pytorch"),
    "fast start": Lie(cheating.Throttled, gate="steady pytorch"),
    "recompiles": Lie(cheating.Recompiling, gate="calls", words="compiles"),
    "honest in control rounds": Lie(cheating.HonestInControls, verdict="not_enough_evidence"),
    "short query in confirmation rounds": Lie(cheating.ShortQuery, gate=REFERENCE),
    "skipped items": Lie(cheating.SkippedItems, gate=REFERENCE),
    "correct for the workload only": Lie(cheating.WorkloadOnly, gate="drawn tokens"),
    "both correct for the workload only": Lie(
        cheating.WorkloadOnly, cheating.WorkloadOnly, gate="drawn tokens' scores pytorch"
    ),
    "one call behind": Lie(cheating.OneCallBehind, gate=REFERENCE),
    "raises for a slow query": Lie(cheating.Raising, gate="calls", words="too slow"),
    "interference in JAX's tuning": Lie(gate="choice", beside=cheating.disturbed_tuning),
    "every second turn is slow": Lie(beside=cheating.second_is_slow),
    "machine slows down": Lie(beside=cheating.slowing_down),
    "better chunk sizes for one side": Lie(gate="effort", params={"backends": UNEQUAL}),
    "faster while the garbage collector is off": Lie(cheating.Watched, gate=DRAWN),
    "fast path for this benchmark": Lie(cheating.Faster, verdict="pytorch", limit="recognises this benchmark"),
    "handicap in JAX's process": Lie(beside=cheating.hidden_handicap, verdict="pytorch", limit="handicap"),
}


def judged(folder: Path, lie: Lie, seed: int = 7) -> Contrast:
    """Make the run and return its only contrast."""
    sides = {"pytorch": lie.pytorch, "jax": lie.jax}
    (contrast,) = Trial(folder, seed, lie.scale, lie.params, sides, lie.beside).run().contrasts
    return contrast


@pytest.mark.parametrize("name", LIES)
def test_no_lie_wins(name: str, tmp_path: Path) -> None:
    lie = LIES[name]
    contrast = judged(tmp_path, lie)
    failed = {gate.name: gate.detail for gate in contrast.gates if gate.status == "failed"}
    if lie.gate is not None:
        assert contrast.verdict == "invalid" and lie.gate in failed, (contrast.sentence, failed)
        assert lie.words in failed[lie.gate]
    else:
        assert contrast.verdict == lie.verdict and not failed, (contrast.sentence, failed)
        assert lie.verdict != "pytorch" or (lie.limit and any(lie.limit in words for words in LIMITS))


@pytest.mark.parametrize("seed", range(20))
def test_the_faster_side_wins_an_honest_run(seed: int, tmp_path: Path) -> None:
    contrast = judged(tmp_path, Lie(), seed)
    assert contrast.verdict == "jax", (contrast.sentence, contrast.reason)
    asked = {gate.name: gate.status for gate in contrast.gates if gate.name.startswith("drawn tokens")}
    assert len(asked) == 5 and set(asked.values()) == {"passed"}, asked
    assert contrast.effect.low < contrast.effect.ratio < contrast.effect.high
    assert abs(abs(np.log(contrast.effect.ratio)) - np.log(TRUE_RATIO)) < 0.02


def test_a_machine_that_changes_between_rounds_is_shown(tmp_path: Path) -> None:
    """JAX's turns take 15 % longer in every second round: other tenants of the host cost one side more."""

    def changing(machine: Machine, seconds: float) -> tuple[float, float]:
        slow = machine.turn_of.backend == "jax" and machine.turn_of.index % 2
        return (0.15 * seconds if slow else 0.0), 0.0

    changed = Trial(tmp_path / "a", beside=changing).run()
    (contrast,) = changed.contrasts
    assert contrast.in_turns.process_log > 0.05
    assert [w for w in changed.warnings if f"{contrast.name}, {contrast.view} view" in w and "turns explain" in w]
    assert not [w for w in Trial(tmp_path / "b").run().warnings if "turns explain" in w]
