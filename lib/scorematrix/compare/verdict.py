"""The one place where a winner can be named. The default is that there is none (rule 24)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from scorematrix.compare.schema import Gate, VerdictState
from scorematrix.compare.statistics import MIN_ROUNDS, Interval, rounds_to_decide

FRAMEWORK_NAMES = {"jax": "JAX", "pytorch": "PyTorch"}


@dataclass(frozen=True)
class Verdict:
    """A state, why it is that, and, where it is not decided, what would decide it."""

    state: VerdictState
    reason: str
    next_step: str | None = None
    more_rounds: int | None = None


def judge(
    *,
    missing_sides: Sequence[tuple[str, str]],
    gates: Sequence[Gate],
    interval: Interval | None,
    rounds_planned: int,
    margin: float,
) -> Verdict:
    """Decide one contrast.

    Args:
        missing_sides: (why, next step) of every side that could not run.
        interval: JAX time over PyTorch time by paired rounds; None while there is no pair.
        margin: the smallest difference that counts, as a fraction.
    """
    if missing_sides:
        return Verdict("deferred", "; ".join(why for why, _ in missing_sides), "; ".join(n for _, n in missing_sides))
    if failed := [gate for gate in gates if gate.status == "failed"]:
        reason = "; ".join(f"gate {gate.name}: {gate.detail}" for gate in failed)
        return Verdict("invalid", reason, "find the cause, then measure again in a new run")
    n = interval.n if interval else 0
    if interval is None or n < MIN_ROUNDS:
        lacking = max(MIN_ROUNDS, rounds_planned) - n
        return Verdict(
            "not_enough_evidence",
            f"{n} of at least {MIN_ROUNDS} paired rounds are recorded",
            "repeat the command to go on" if n < rounds_planned else "raise rounds in the params",
            lacking,
        )
    if waiting := [gate for gate in gates if gate.status == "not_run"]:
        reason = "; ".join(f"gate {gate.name} has not run: {gate.detail}" for gate in waiting)
        return Verdict("not_enough_evidence", reason, "run the reference, see the reason")
    low, high, bound = math.log(interval.low), math.log(interval.high), math.log1p(margin)
    percent = f"{margin:.0%}"
    if high < -bound:
        return Verdict("jax", f"the whole interval lies beyond the {percent} margin")
    if low > bound:
        return Verdict("pytorch", f"the whole interval lies beyond the {percent} margin")
    if -bound < low and high < bound:
        return Verdict("tie", f"the whole interval lies inside the {percent} margin")
    needed = rounds_to_decide(interval, margin)
    more = needed - n if needed else None
    step = (
        f"about {more} more rounds would decide" if more else "more than 1,000 rounds would be needed: treat as close"
    )
    return Verdict("not_enough_evidence", f"the interval crosses the {percent} margin", step, more)


def sentence(
    where: str, kind: Literal["framework", "system"], view: str, verdict: Verdict, interval: Interval | None
) -> str:
    """The verdict in one sentence, with effect and interval where there are any."""
    head = f"{'System comparison, ' if kind == 'system' else ''}{where}, {view} view: "
    if verdict.state in ("jax", "pytorch") and interval is not None:
        winner, loser = ("jax", "pytorch") if verdict.state == "jax" else ("pytorch", "jax")
        speed, low, high = _speedup(interval, winner)
        return (
            f"{head}{FRAMEWORK_NAMES[winner]} is {speed:.2f} times as fast as {FRAMEWORK_NAMES[loser]} "
            f"(95 % interval {low:.2f} to {high:.2f}, {interval.n} paired rounds)."
        )
    if verdict.state == "tie" and interval is not None:
        speed, low, high = _speedup(interval, "jax")
        return (
            f"{head}a tie. JAX's speed is {speed:.3f} of PyTorch's (95 % interval {low:.3f} to {high:.3f}, "
            f"{interval.n} paired rounds): {verdict.reason}."
        )
    if verdict.state == "deferred":
        return f"{head}deferred, no winner is named. {verdict.reason}."
    if verdict.state == "invalid":
        return f"{head}invalid, no winner is named. {verdict.reason}."
    so_far = ""
    if interval is not None and interval.n > 1:
        speed, low, high = _speedup(interval, "jax")
        so_far = f" So far JAX's speed is {speed:.2f} of PyTorch's ({low:.2f} to {high:.2f}, {interval.n} rounds)."
    step = f" Next: {verdict.next_step}." if verdict.next_step else ""
    return f"{head}not enough evidence, no winner is named: {verdict.reason}.{so_far}{step}"


def _speedup(interval: Interval, winner: str) -> tuple[float, float, float]:
    """How many times as fast the winner is, with the interval, from JAX time over PyTorch time."""
    if winner == "jax":
        return 1 / interval.center, 1 / interval.high, 1 / interval.low
    return interval.center, interval.low, interval.high
