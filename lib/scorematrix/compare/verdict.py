"""Decide verdicts: only this module names a winner, and the default is none (rule 24)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from scorematrix.compare.schema import Contrast, ContrastKind, Gate, Opponent, VerdictState
from scorematrix.compare.statistics import (
    CONFIDENCE,
    MIN_ROUNDS,
    Interval,
    holm,
    p_beyond,
    rounds_to_decide,
)
from scorematrix.results.schema import MOST_ROUNDS, UNTIL_DECIDED_TIMES

OPEN = ("not_run", "undecided")
"""Statuses of a gate that has neither passed nor failed."""
UNANSWERED = ("deferred", "invalid")
"""Verdicts that do not depend on measured times, and so not on chance."""
USELESS_MARGIN = 0.25
"""Above this margin the reason reports the A/A noise, not how far the noise widened the margin."""


@dataclass(frozen=True)
class Verdict:
    """A state with its reason and, if it is undecided, what would decide it."""

    state: VerdictState
    reason: str
    next_step: str | None = None
    more_rounds: int | None = None
    wants_rounds: bool = False
    """Whether rounds beyond the planned ones could change it."""


def judge(
    *,
    missing_sides: Sequence[tuple[str, str]],
    gates: Sequence[Gate],
    tie_gates: Sequence[Gate] = (),
    interval: Interval | None,
    missing_rounds: int,
    margin: float,
    tie_margin: float | None = None,
    confidence: float = CONFIDENCE,
    rounds: str = "paired rounds",
) -> Verdict:
    """Decide one contrast at one look, or whether a side changed between two runs: only then rounds are not paired.

    Args:
        missing_sides: (why, next step) of every side that could not run.
        tie_gates: gates that only a tie needs: proof that the run would have detected a difference.
        interval: the first side's time over the second's by paired rounds; None while there is no pair.
        missing_rounds: planned rounds of this look that are not recorded yet.
        margin: a winner's interval must lie beyond it, as a fraction.
        tie_margin: a tie's interval must lie within it; None: `margin`. Scatter may prevent a win, but never makes a
            tie.
        confidence: of the interval.
    """
    if missing_sides:
        return Verdict("deferred", "; ".join(why for why, _ in missing_sides), "; ".join(n for _, n in missing_sides))
    if failed := [gate for gate in [*gates, *tie_gates] if gate.status == "failed"]:
        reason = "; ".join(f"gate {gate.name}: {gate.detail}" for gate in failed)
        return Verdict("invalid", reason, "find the cause, then measure again in a new run")
    n = interval.n if interval else 0
    if missing_rounds:
        return Verdict(
            "not_enough_evidence",
            f"{n} {rounds} are recorded and more are planned; a verdict falls only at the planned count",
            "repeat the command to go on",
            missing_rounds,
            wants_rounds=True,
        )
    if interval is None or n < MIN_ROUNDS:
        reason = f"{n} of at least {MIN_ROUNDS} {rounds} are recorded"
        return Verdict("not_enough_evidence", reason, "raise rounds in the params", MIN_ROUNDS - n, wants_rounds=True)
    if waiting := [gate for gate in gates if gate.status in OPEN]:
        reason = "; ".join(f"gate {gate.name} has not passed: {gate.detail}" for gate in waiting)
        only_rounds = _only_rounds(waiting)
        step = "more rounds, or a quieter machine: a new run with --until-decided" if only_rounds else "see the gates"
        return Verdict("not_enough_evidence", reason, step, wants_rounds=only_rounds)
    low, high, bound = math.log(interval.low), math.log(interval.high), math.log1p(margin)
    tie_margin = margin if tie_margin is None else tie_margin
    tie_bound, margin_text = math.log1p(tie_margin), margin_words(margin, tie_margin)
    if high < -bound:
        return Verdict("first", f"the interval lies entirely beyond the {margin_text}")
    if low > bound:
        return Verdict("second", f"the interval lies entirely beyond the {margin_text}")
    if -tie_bound < low and high < tie_bound:
        if waiting := [gate for gate in tie_gates if gate.status in OPEN]:
            reason = "; ".join(f"gate {gate.name} has not passed: {gate.detail}" for gate in waiting)
            return Verdict("not_enough_evidence", reason, "more rounds narrow the controls", wants_rounds=True)
        return Verdict("tie", f"the interval lies entirely inside the {percent(tie_margin)} margin")
    is_widened = percent(margin) != percent(tie_margin)  # as the reader sees it
    reason = f"the interval {'overlaps' if is_widened else 'crosses'} the {margin_text}"
    if margin > max(tie_margin, USELESS_MARGIN):
        reason = f"A/A noise is {percent(margin)}, and only a larger difference would show"
    needed = rounds_to_decide(interval, tie_margin, confidence, widened=margin)
    more = needed - n if needed else None
    because = ", because A/A noise widened the margin" if is_widened else ""
    if needed:
        step = f"about {more} more rounds would decide: a new run with rounds={needed}"
        step += ", or with --until-decided" if needed <= UNTIL_DECIDED_TIMES * MIN_ROUNDS else ""
        step += f"; a quieter machine would also help{because}" if is_widened else ""
    else:
        advice = f"use a quieter machine{because}" if is_widened or high - low > 2 * bound else "treat as close"
        step = f"more than {MOST_ROUNDS} rounds would be needed: {advice}"
    return Verdict("not_enough_evidence", reason, step, more, wants_rounds=True)


def margin_words(margin: float, params_margin: float) -> str:
    """Write a margin, and the params' one if the controls visibly widened it."""
    now, before = percent(margin), percent(params_margin)
    return f"{now} margin" + (f" (widened from {before} because of A/A noise)" if now != before else "")


def percent(fraction: float) -> str:
    """Format a margin as a percentage."""
    return f"{fraction:.0%}" if fraction >= 0.1 else f"{fraction * 100:.2g}%"


def _only_rounds(waiting: Sequence[Gate]) -> bool:
    """Return whether more rounds may settle all these gates."""
    return all("control" in gate.name for gate in waiting)


COMPARISONS = {"system": "System comparison, ", "server": "Server comparison, "}


def sentence(
    where: str,
    kind: ContrastKind,
    view: str,
    sides: tuple[Opponent, Opponent],
    verdict: Verdict,
    interval: Interval | None,
) -> str:
    """Write the verdict in one sentence, with effect and interval if there are any.

    Args:
        interval: the first side's time over the second's.
    """
    first, second = (side.label for side in sides)
    head = f"{COMPARISONS.get(kind, '')}{where}{'' if kind == 'server' else f', {view} view'}: "
    if verdict.state in ("first", "second") and interval is not None:
        winner, loser = (first, second) if verdict.state == "first" else (second, first)
        speed, low, high = _speedup(interval, first_wins=verdict.state == "first")
        return (
            f"{head}{winner} is {speed:.2f} times as fast as {loser} "
            f"(95 % interval {low:.2f} to {high:.2f}, {interval.n} paired rounds)."
        )
    if verdict.state == "tie" and interval is not None:
        speed, low, high = _speedup(interval)
        return (
            f"{head}a tie. {first}'s speed is {speed:.3f} times {second}'s (95 % interval {low:.3f} to {high:.3f}, "
            f"{interval.n} paired rounds): {verdict.reason}."
        )
    no_ratio = verdict.state in UNANSWERED or interval is None or interval.n < 2
    head += f"{first} against {second}: " if kind == "server" and no_ratio and first not in where else ""
    if verdict.state == "deferred":
        return f"{head}deferred, no winner is named. {verdict.reason}."
    if verdict.state == "invalid":
        return f"{head}invalid, no winner is named. {verdict.reason}."
    so_far = ""
    if interval is not None and not no_ratio:
        speed, low, high = _speedup(interval)
        within = f"{low:.2f} to {high:.2f}, {interval.n} rounds"
        if interval.n < MIN_ROUNDS:
            within += ", too few to decide"
        so_far = f" So far {first}'s speed is {speed:.2f} times {second}'s ({within})."
    step = f" Next: {verdict.next_step}." if verdict.next_step else ""
    return f"{head}not enough evidence, no winner is named: {verdict.reason}.{so_far}{step}"


def _speedup(interval: Interval, first_wins: bool = True) -> tuple[float, float, float]:
    """Return how many times as fast one side is, with the interval, from the first's time over the second's."""
    if first_wins:
        return 1 / interval.center, 1 / interval.high, 1 / interval.low
    return interval.center, interval.low, interval.high


def correct_family(contrasts: Sequence[Contrast], n_looks: int) -> list[Contrast]:
    """Apply Holm's correction over all contrasts of a run that have times; withdraw each win that does not survive it.

    Args:
        n_looks: number of round counts at which the run may be judged; each look gets its share of the level.
    """
    intervals = {i: c.effect.interval for i, c in enumerate(contrasts) if c.effect and c.verdict not in UNANSWERED}
    p_values = [p_beyond(interval, math.log1p(contrasts[i].margin)) for i, interval in intervals.items()]
    adjusted = holm([min(1.0, n_looks * p) for p in p_values])
    corrected = list(contrasts)
    for (i, interval), p in zip(intervals.items(), adjusted, strict=True):
        corrected[i] = _corrected(contrasts[i], interval, p, len(intervals))
    return corrected


def _corrected(contrast: Contrast, interval: Interval, p: float, n_family: int) -> Contrast:
    if contrast.winner is None or p <= 1 - CONFIDENCE:
        return contrast.model_copy(update={"p_adjusted": p})
    reason = f"the interval lies beyond the margin, but not after correction for {n_family} contrasts (Holm, p={p:.3f})"
    verdict = Verdict("not_enough_evidence", reason, "more rounds narrow the interval", wants_rounds=True)
    return contrast.model_copy(
        update={
            "p_adjusted": p,
            "verdict": verdict.state,
            "reason": verdict.reason,
            "next_step": verdict.next_step,
            "wants_rounds": verdict.wants_rounds,
            "sentence": sentence(
                contrast.name, contrast.kind, contrast.view, (contrast.first, contrast.second), verdict, interval
            ),
        }
    )
