"""Whole runs in which PyTorch, the slower side, lies or is favoured: it never wins, and a gate names what it did."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from scorematrix.compare import Comparison
from scorematrix.report.methods import LIES as LIMITS
from tests.faults.cheating import (
    Constant,
    Elsewhere,
    FastClock,
    FewItems,
    GivesUp,
    HonestInControls,
    KeepingQueries,
    KnowingTheSeed,
    Late,
    Lucky,
    ManyThreads,
    OneRemembered,
    Prepared,
    Previous,
    Recognising,
    Recompiling,
    Remembering,
    RememberingInConfirmation,
    RememberingSorted,
    SetBack,
    ShortQuery,
    SlowClock,
    SlowClocks,
    Slowing,
    Stale,
    Unfinished,
    busy_child,
    disturbed_tuning,
    held_up_within,
    second_is_slow,
    slowing_down,
    works_ahead,
)
from tests.faults.whole_run import TRUE_RATIO, Beside, Scorer, Trial

pytestmark = pytest.mark.usefixtures("quick_collections")


@dataclass(frozen=True)
class Lie:
    """A false advantage for PyTorch.

    Attributes:
        gate: names it; None: it does not pay, and JAX wins all the same, or nobody.
        words: in the gate's detail.
        limit: words of the report's limits, for one that nothing tells.
    """

    pytorch: type[Scorer] = Scorer
    jax: type[Scorer] = Scorer
    gate: str | None = None
    words: str = ""
    limit: str = ""
    beside: Beside | None = None
    scale: float = 1.0
    params: dict[str, Any] = field(default_factory=dict)


DRAWN = "drawn tokens' time pytorch"
UNEQUAL = [
    {"backend": "jax", "chunk_sizes": {"portable": [2, 4]}},
    {"backend": "pytorch", "chunk_sizes": {"portable": [4, 8]}},
]
LIES = {
    "lru_cache(maxsize=1) around score": Lie(OneRemembered, scale=0.005),
    "an answer that computes when it is read": Lie(Late, gate="calls", words="LateArray"),
    "prepare answers what will be timed": Lie(Prepared),
    "a cache": Lie(Remembering, gate="no caching pytorch"),
    "a cache in confirmation rounds only": Lie(RememberingInConfirmation, gate=DRAWN),
    "a cache by sorted tokens": Lie(RememberingSorted, gate=DRAWN),
    "a probe's queries computed beforehand from the seed": Lie(KnowingTheSeed, gate="no caching pytorch"),
    "queries' keys and values kept": Lie(KeepingQueries, gate="no caching pytorch"),
    "a clock at a tenth": Lie(SlowClock, gate="clocks pytorch"),
    "both clocks at a tenth": Lie(SlowClocks, gate="clocks pytorch"),
    "the other side's clocks run fast": Lie(jax=FastClock, gate="clocks jax"),
    "a clock that is set back": Lie(SetBack, gate="clocks pytorch"),
    "a clock that is set back by a millisecond in calls of four": Lie(SetBack, gate="clocks pytorch", scale=0.02),
    "more threads than on record": Lie(ManyThreads, gate="threads pytorch"),
    "a detached process does the work": Lie(Elsewhere, gate="interference"),
    "a busy child beside the other side": Lie(gate="interference", beside=busy_child),
    "work ahead in the other side's turns": Lie(gate="interference", beside=works_ahead),
    "work left until the clock is stopped": Lie(Unfinished, gate="clocks pytorch"),
    "time that does not grow with the work": Lie(Constant, gate="growth pytorch"),
    "a burst": Lie(Slowing, gate="steady pytorch"),
    "compiled while timed": Lie(Recompiling, gate="calls", words="compiles"),
    "a shorter query in confirmation rounds": Lie(ShortQuery, gate="reference pytorch"),
    "items that are not computed": Lie(FewItems, gate="reference pytorch"),
    "right for the workload only": Lie(Stale, gate="drawn tokens"),
    "one call behind": Lie(Previous, gate="reference pytorch"),
    "raises where it would be slow": Lie(GivesUp, gate="calls", words="too long"),
    "honest in control rounds": Lie(HonestInControls),
    "one lucky round": Lie(Lucky),
    "a disturbed tuning round": Lie(gate="choice", beside=disturbed_tuning),
    "whoever is second is slowed": Lie(beside=second_is_slow),
    "a machine that slows down": Lie(beside=slowing_down),
    "chunk sizes of which one side has better ones": Lie(gate="effort", params={"backends": UNEQUAL}),
    "an engine that recognises the benchmark": Lie(Recognising, limit="recognises this benchmark"),
    "a handicap within the other side's process": Lie(beside=held_up_within, limit="handicap"),
}


def judged(folder: Path, lie: Lie, seed: int = 7) -> Comparison:
    """The whole run."""
    sides = {"pytorch": lie.pytorch, "jax": lie.jax}
    return Trial(folder, seed, lie.scale, lie.params, sides, lie.beside).run()


@pytest.mark.parametrize("name", LIES)
def test_no_lie_wins(name: str, tmp_path: Path) -> None:
    lie = LIES[name]
    (contrast,) = judged(tmp_path, lie).contrasts
    failed = {gate.name: gate.detail for gate in contrast.gates if gate.status == "failed"}
    if lie.limit:
        assert contrast.verdict == "pytorch" and not failed, "it can be told now: take it off the limits"
        assert any(lie.limit in words for words in LIMITS)
    elif lie.gate:
        assert contrast.verdict == "invalid" and lie.gate in failed, (contrast.sentence, failed)
        assert lie.words in failed[lie.gate]
    else:
        assert contrast.verdict in ("jax", "not_enough_evidence") and not failed, (contrast.sentence, failed)


@pytest.mark.parametrize("seed", range(20))
def test_without_a_lie_the_faster_side_wins(seed: int, tmp_path: Path) -> None:
    (contrast,) = judged(tmp_path, Lie(), seed).contrasts
    assert contrast.verdict == "jax", (contrast.sentence, contrast.reason)
    assert contrast.effect.low < contrast.effect.ratio < contrast.effect.high
    assert abs(abs(np.log(contrast.effect.ratio)) - np.log(TRUE_RATIO)) < 0.02
