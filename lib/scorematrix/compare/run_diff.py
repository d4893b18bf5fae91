"""Compare two runs of the same plan: the change of each side, changed verdicts, and other differences."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

from scorematrix.compare.build import compare_run, reference_scores
from scorematrix.compare.controls import control_gates
from scorematrix.compare.evidence import SideEvidence, gather
from scorematrix.compare.gates import run_gates
from scorematrix.compare.run_diff_settings import Difference, different, one_device
from scorematrix.compare.run_diff_sides import Change, correct_changes, judge_change
from scorematrix.compare.schema import Comparison, Contrast, Gate, Side
from scorematrix.compare.statistics import Interval, welch_interval
from scorematrix.compare.timing import side_timing_gates
from scorematrix.results import Manifest, Readiness, Round
from scorematrix.results.merge import first_difference
from scorematrix.workload.workload import Workload

SideKey = tuple[str, str, str]
BETWEEN = "between sides"


@dataclass(frozen=True)
class RunRecord:
    """The documents of one run, and the results computed from them.

    Attributes:
        word: the run's label in texts: OLD or NEW.
    """

    word: str
    name: str
    manifest: Manifest
    workload: Workload
    readiness: Readiness
    rounds: Sequence[Round]

    @cached_property
    def comparison(self) -> Comparison:
        return compare_run(self.manifest, self.workload, self.readiness, self.rounds)

    @cached_property
    def evidence(self) -> dict[SideKey, SideEvidence]:
        reference = reference_scores(self.rounds, self.readiness, self.manifest)
        return {key: gather(self.rounds, *key, reference) for key in self.sides}

    @cached_property
    def sides(self) -> dict[SideKey, Side]:
        return {s.key: s for s in self.comparison.sides}

    def gates(self, key: SideKey) -> tuple[list[Gate], list[Gate]]:
        """Return the gates that the side must pass before its times count, and the extra gates for "no change"."""
        side, everyone = self.evidence[key], list(self.evidence.values())
        gates = [*run_gates((side,), self.workload, True), *side_timing_gates(side, everyone, self.manifest)]
        # If the two frameworks disagree, nobody knows which one is wrong, so neither counts.
        gates += [g for c in self._contrasts(side) for g in c.gates if (g.name, g.status) == (BETWEEN, "failed")]
        pairs = [control_gates(c) for c in self.comparison.controls if c.target == side.target]
        gates += [itself for itself, _ in pairs]
        return [self._named(gate) for gate in gates], [self._named(slowed) for _, slowed in pairs]

    def margin(self, target: str) -> float:
        """Return the params' margin, or the wider one that the target's controls require."""
        widened = [c.margin for c in self.comparison.controls if c.target == target]
        return max([self.manifest.params["margin"], *widened])

    def lacking(self, key: SideKey) -> str | None:
        """Return why the run has no rounds of the side; None if it has some."""
        side = self.sides[key]
        if side.state == "skipped":
            skip = self.readiness.skip(side.target, side.backend)
            assert skip is not None  # only a skip in `readiness` gives a side this state
            return f"{self.word} skipped it ({skip.reason}): {skip.evidence}"
        return f"{self.word} has no round of it" if side.state == "not_started" else None

    def n_missing(self, key: SideKey) -> int:
        """Return how many planned rounds of the side are not recorded."""
        return max(0, self.sides[key].n_rounds_planned - self.sides[key].n_rounds)

    def _contrasts(self, side: SideEvidence) -> Iterator[Contrast]:
        for contrast in self.comparison.contrasts:
            if (side.backend, side.view, side.target) in contrast.keys:
                yield contrast

    def _named(self, gate: Gate) -> Gate:
        return gate.model_copy(update={"name": f"{self.word} {gate.name}"})


@dataclass(frozen=True)
class SideChange:
    """One (backend, view, target) in both runs, each at the chunk size that its run chose.

    Attributes:
        same_device: whether both runs used the same machine and device; else the change compares two systems.
    """

    backend: str
    view: str
    target: str
    old: Side
    new: Side
    same_device: bool
    change: Change


@dataclass(frozen=True)
class VerdictChange:
    """One contrast in both runs."""

    old: Contrast
    new: Contrast

    @property
    def changed(self) -> bool:
        return self.old.verdict != self.new.verdict


@dataclass(frozen=True)
class RunChange:
    """Everything that a summary may say about two runs of one plan."""

    old: RunRecord
    new: RunRecord
    sides: list[SideChange]
    verdicts: list[VerdictChange]
    differences: list[Difference]
    warnings: list[str]


def compare_runs(old: RunRecord, new: RunRecord) -> RunChange:
    """Judge what changed from one run to the other. Either run may be unfinished.

    Raises:
        ValueError: the runs are not comparable, see `check_comparable`.
    """
    check_comparable(old, new)
    tie_margin = new.manifest.params["margin"]
    changes = correct_changes([_change(old, new, key, tie_margin) for key in new.sides])
    sides = [
        SideChange(*key, old.sides[key], new.sides[key], _same_device(old, new, key), change)
        for key, change in zip(new.sides, changes, strict=True)
    ]
    before = {contrast.keys: contrast for contrast in old.comparison.contrasts}
    verdicts = [VerdictChange(before[c.keys], c) for c in new.comparison.contrasts if c.keys in before]
    return RunChange(
        old, new, sides, verdicts, different(old.rounds, new.rounds), [w for run in (old, new) for w in _warnings(run)]
    )


def check_comparable(old: RunRecord, new: RunRecord) -> None:
    """Refuse runs of different plans, workloads, weights or protocols, and runs that share rounds.

    Raises:
        ValueError: names the field and both values, or the shared round.
    """
    for field in ("workload_sha256", "params_sha256"):
        mine, its = getattr(old.manifest, field), getattr(new.manifest, field)
        if mine != its:
            detail = first_difference(old.manifest.params, new.manifest.params)
            raise ValueError(
                f"{field} differs: {_run(old)} has {mine[:12]}..., {_run(new)} has {its[:12]}...{detail}; "
                "only runs of the same params file can be compared"
            )
    for field in ("protocol", "weights_sha256"):
        mine, its = (sorted({str(v) for r in run.rounds if (v := getattr(r, field))}) for run in (old, new))
        if len({*mine, *its}) > 1:
            values = [" and ".join(value[:12] for value in recorded) or "none" for recorded in (mine, its)]
            raise ValueError(
                f"{field} differs: {_run(old)} has {values[0]}, {_run(new)} has {values[1]}; "
                "times of different models or protocols cannot be compared"
            )
    seals = {r.sha256: r.name for r in old.rounds}
    if same := [r for r in new.rounds if r.sha256 in seals]:
        raise ValueError(
            f"round {same[0].name} is the same in both (sha256={same[0].sha256[:12]}..., one of {len(same)}): "
            f"{_run(old)} and {_run(new)} share measurements; give two runs that were measured separately"
        )


def _change(old: RunRecord, new: RunRecord, key: SideKey, tie_margin: float) -> Change:
    runs = (old, new)
    gates, tie_gates = zip(*(run.gates(key) for run in runs), strict=True)
    return judge_change(
        missing=[why for run in runs if (why := run.lacking(key))],
        gates=[*_dtype_gate(old, new, key), *(gate for of_run in gates for gate in of_run)],
        tie_gates=[gate for of_run in tie_gates for gate in of_run],
        n_missing=sum(run.n_missing(key) for run in runs),
        ratio=_throughput_ratio(old.evidence[key], new.evidence[key]),
        margin=max(run.margin(key[2]) for run in runs),
        tie_margin=tie_margin,
    )


def _throughput_ratio(old: SideEvidence, new: SideEvidence) -> Interval | None:
    """Return throughput now over before, each run at its chosen chunk size; None below two timed rounds in a run.

    Both runs have the same workload, so this is seconds before over seconds now.
    """
    before, now = (
        list(side.seconds_by_round(side.best_chunk).values()) if side.best_chunk is not None else []
        for side in (old, new)
    )
    return welch_interval(before, now) if min(len(before), len(now)) > 1 else None


def _dtype_gate(old: RunRecord, new: RunRecord, key: SideKey) -> list[Gate]:
    """Fail if the number formats differ, because that is another computation (rule 31).

    `dtype: auto` may choose different formats on different devices.
    """
    mine, its = old.sides[key].dtype, new.sides[key].dtype
    if None in (mine, its) or mine == its:
        return []
    return [Gate(name="inputs", status="failed", detail=f"dtype differs: OLD has {mine}, NEW has {its}")]


def _same_device(old: RunRecord, new: RunRecord, key: SideKey) -> bool:
    return one_device([r for run in (old, new) for r in run.evidence[key].rounds])


def _warnings(run: RunRecord) -> Iterator[str]:
    """Yield failed gates first, because they invalidate a contrast; then the comparison's warnings."""
    for contrast in run.comparison.contrasts:
        for gate in contrast.gates:
            if gate.status == "failed":
                yield f"{run.word}: {contrast.name}, {contrast.view} view: gate {gate.name} failed: {gate.detail}"
    for warning in run.comparison.warnings:
        yield f"{run.word}: {warning}"


def _run(run: RunRecord) -> str:
    return f"{run.word} ({run.name})"
