"""Ask and answer a run's questions, at each look: which side is faster here, in this view?"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from scorematrix.compare.controls import ControlEvidence, control_gates, judge_control
from scorematrix.compare.effect import InTurns
from scorematrix.compare.evidence import SideEvidence, paired_ratios
from scorematrix.compare.gates import run_gates
from scorematrix.compare.pairs import pair_ratios
from scorematrix.compare.schema import FRAMEWORK_NAMES, Contrast, ContrastKind, Effect, Gate, Matched, Opponent
from scorematrix.compare.sequential import Looks
from scorematrix.compare.statistics import CONFIDENCE, Interval, geometric_interval
from scorematrix.compare.timing import timing_gates
from scorematrix.compare.verdict import Verdict, correct_family, judge, sentence
from scorematrix.results import SERVER_VIEW, Manifest, Readiness, TargetState, opposed, stands_for
from scorematrix.workload.workload import Workload

SideKey = tuple[str, str, str]


@dataclass(frozen=True)
class Question:
    """One comparison of the params in one view, with everything that is the same at all looks."""

    first: SideEvidence
    second: SideEvidence
    opponents: tuple[Opponent, Opponent]
    kind: ContrastKind
    where: str
    skips: tuple[TargetState, ...]
    gates: tuple[Gate, ...]
    controls: tuple[ControlEvidence, ...]
    chunk_sizes: tuple[int, ...]


def ask_questions(
    manifest: Manifest,
    readiness: Readiness,
    sides: Mapping[SideKey, SideEvidence],
    controls: Sequence[ControlEvidence],
    workload: Workload,
) -> list[Question]:
    """Make one question per comparison of the params, and per view and pair of backends that represent its sides."""
    of_controls = [r for control in controls for r in control.rounds]
    choices = [tuple(zip(*opposed(choice), strict=True)) for choice in manifest.params["comparisons"]]
    pairs = [
        (names, tuple((*one, target) for one, target in zip(both, targets, strict=True)))
        for names, targets in choices
        for both in _opponents(manifest.params["backends"], names)
    ]
    n_served = len([both for _, both in pairs if both[0][1] == SERVER_VIEW])
    questions = []
    for names, keys in pairs:
        pair = [sides[key] for key in keys]
        same, is_served = pair[0].target == pair[1].target, pair[0].view == SERVER_VIEW
        states = [readiness.state(side.target, side.backend) for side in pair]
        labels = [state.label if state else side.target for state, side in zip(states, pair, strict=True)]
        opponents = _opponents_named(names, pair)
        kind = "framework" if set(names) == set(FRAMEWORK_NAMES) else "backend"
        where = [labels[0] if same else " against ".join(labels)]
        if is_served:
            kind = "server"
            # Servers have long names, and every sentence contains them.
            where += [" against ".join(one.label for one in opponents)] if n_served > 1 else []
        elif kind == "backend":
            where.append(" against ".join(one.backend for one in opponents))
        questions.append(
            Question(
                *pair,
                opponents=opponents,
                kind=kind if same else "system",
                where=", ".join(where),
                skips=tuple(s for side in pair if (s := readiness.skip(side.target, side.backend))),
                gates=(
                    *run_gates(pair, workload, same),
                    *timing_gates(pair, list(sides.values()), manifest, of_controls),
                ),
                controls=tuple(c for c in controls if c.target in {side.target for side in pair}),
                chunk_sizes=tuple(manifest.params["chunk_sizes"]),
            )
        )
    return questions


def _opponents(
    backends: Sequence[Mapping[str, Any]], names: Sequence[str]
) -> list[tuple[tuple[str, str], tuple[str, str]]]:
    """Return each pair of (backend, view) that represents the two sides in the same view, in the params' order.

    If the params name a scorer instead of a framework, a side that has only one view meets every view of the other.
    """
    sides = [
        [(b["backend"], v) for b in backends for v in b["views"] if stands_for(name, b["backend"])] for name in names
    ]
    by_name = any(name not in FRAMEWORK_NAMES for name in names)
    alone = [len({view for _, view in side}) == 1 for side in sides]
    return [
        (first, second)
        for first in sides[0]
        for second in sides[1]
        if first[1] == second[1] or (by_name and any(alone))
    ]


def answer_all(questions: Sequence[Question], looks: Looks, margin: float) -> list[Contrast]:
    """Return every question's answer at the first look that settles it, else at the last look that was reached."""
    settled: dict[int, Contrast] = {}
    contrasts: list[Contrast] = []
    for count in looks.counts:
        answers = [settled.get(i) or answer(q, count, looks, margin) for i, q in enumerate(questions)]
        contrasts = [settled.get(i, c) for i, c in enumerate(correct_family(answers, len(looks.counts)))]
        settled |= {i: c for i, c in enumerate(contrasts) if not c.wants_rounds}
        if any(_missing(q, looks.indices(count)) for i, q in enumerate(questions) if i not in settled):
            break  # the next look needs more rounds
    return contrasts


def answer(question: Question, count: int, looks: Looks, margin: float) -> Contrast:
    """Answer one question at the look with `count` confirmation rounds.

    Args:
        margin: the smallest difference that counts, as a fraction; the controls may widen it.
    """
    first, second = question.first, question.second
    opponents = question.opponents
    indices = looks.indices(count)
    missing = _missing(question, indices)
    controls = [judge_control(c, indices, looks.confidence, margin, not missing) for c in question.controls]
    gates = [control_gates(c) for c in controls] if not question.skips else []
    chosen = (first, first.best_chunk, second, second.best_chunk)
    interval = time_ratio(*chosen, indices=indices, confidence=looks.confidence)
    in_turns = _in_turns(first, second, indices, looks.confidence)
    most = math.inf
    if interval is not None and interval.n > 1 and in_turns is not None:
        most = math.sqrt(interval.high / interval.low) - 1
    # A control of another view was measured in other turns, so its noise may be absent from this contrast.
    of_view = {first.view, second.view}
    widened = max([margin, *(c.margin if c.view in of_view else min(c.margin, most) for c in controls)])
    verdict = judge(
        missing_sides=[(_why(s), s.next_step or "see the evidence") for s in question.skips],
        gates=[*question.gates, *(unchanged for unchanged, _ in gates)],
        tie_gates=[slowed for _, slowed in gates],
        interval=interval,
        missing_rounds=missing,
        margin=widened,
        tie_margin=margin,
        confidence=looks.confidence,
    )
    verdict = _confirmed_in_cycles(question, verdict, indices, looks.confidence)
    sizes = {chunk for side in (first, second) for chunk in side.chunk_sizes} or set(question.chunk_sizes)
    matched = [_matched(first, second, chunk) for chunk in sorted(sizes)]
    rows = [row.effect.ratio for row in matched if row.effect]
    view = first.view if first.view == second.view else f"{first.view} against {second.view}"
    return Contrast(
        name=question.where,
        kind=question.kind,
        view=view,
        first=opponents[0],
        second=opponents[1],
        verdict={"first": opponents[0].name, "second": opponents[1].name}.get(verdict.state, verdict.state),
        sentence=sentence(question.where, question.kind, view, opponents, verdict, interval),
        reason=verdict.reason,
        next_step=verdict.next_step,
        effect=Effect.of(interval),
        in_turns=in_turns,
        more_rounds=verdict.more_rounds,
        wants_rounds=verdict.wants_rounds,
        margin=widened,
        n_rounds=count,
        break_even_items=_break_even(first, second),
        matched=matched,
        # Never an average over incomplete rows (rule 26).
        matched_ratio=geometric_interval(rows).center if rows and len(rows) == len(matched) else None,
        gates=[*question.gates, *(gate for pair in gates for gate in pair)],
    )


def _opponents_named(names: Sequence[str], sides: Sequence[SideEvidence]) -> tuple[Opponent, Opponent]:
    """Return both sides. If two servers report the same software, add the backend name that the params give each."""
    first, second = (_opponent(name, side) for name, side in zip(names, sides, strict=True))
    if first.label == second.label and first.backend != second.backend:
        first, second = (
            one.model_copy(update={"software": f"{one.label} (as {one.backend})"}) for one in (first, second)
        )
    return first, second


def _opponent(name: str, side: SideEvidence) -> Opponent:
    return Opponent(
        name=name,
        backend=side.backend,
        view=side.view,
        target=side.target,
        chunk=side.best_chunk,
        software=side.software,
    )


def _confirmed_in_cycles(question: Question, verdict: Verdict, indices: range, confidence: float) -> Verdict:
    """Require that a win on one GPU is also a win in cycles (seconds x clock), else the clocks differed (rule 19)."""
    clocks = [side.clock_by_round() for side in (question.first, question.second)]
    if verdict.state not in ("first", "second") or question.kind == "system" or not all(clocks):
        return verdict
    cycles = [
        {
            i: seconds * clock[i]
            for i, seconds in (side.seconds_by_round(side.best_chunk) if side.best_chunk is not None else {}).items()
            if i in clock and i in indices
        }
        for side, clock in zip((question.first, question.second), clocks, strict=True)
    ]
    ratios = list(paired_ratios(*cycles).values())
    interval = geometric_interval(ratios, confidence) if len(ratios) > 1 else None
    if interval is not None and (interval.high < 1 if verdict.state == "first" else interval.low > 1):
        return verdict
    ratio = f"{interval.center:.3f} ({interval.low:.3f} to {interval.high:.3f})" if interval else "unknown"
    over = " over ".join(one.name for one in question.opponents)
    reason = f"GPU cycles do not confirm the difference in time ({over}: {ratio}): the clocks differed"
    return Verdict("not_enough_evidence", reason, "lock the GPU's clocks, then measure again", wants_rounds=True)


def time_ratio(
    over: SideEvidence,
    over_chunk: int | None,
    under: SideEvidence,
    under_chunk: int | None,
    *,
    indices: range | None = None,
    confidence: float = CONFIDENCE,
) -> Interval | None:
    """Return the first's time over the second's, paired by round; None without a round of both.

    Args:
        indices: use these rounds only.
    """
    if over_chunk is None or under_chunk is None:
        return None
    pairs = pair_ratios(over.confirm, over_chunk, under.confirm, under_chunk)
    values = [pair.ratio for index, pair in pairs.items() if indices is None or index in indices]
    return geometric_interval(values, confidence) if values else None


def _in_turns(first: SideEvidence, second: SideEvidence, indices: range, confidence: float) -> InTurns | None:
    if first.best_chunk is None or second.best_chunk is None:
        return None
    pairs = pair_ratios(first.confirm, first.best_chunk, second.confirm, second.best_chunk)
    return InTurns.of([pair for index, pair in pairs.items() if index in indices], confidence)


def _missing(question: Question, indices: range) -> int:
    """Return how many rounds of these indices are missing on the side that lacks more."""
    return max(len(set(indices) - {r.index for r in side.confirm}) for side in (question.first, question.second))


def _matched(first: SideEvidence, second: SideEvidence, chunk: int) -> Matched:
    interval = time_ratio(first, chunk, second, chunk)
    if interval is None:
        return Matched(chunk_size=chunk, effect=None, reason="no round of both sides has this chunk size")
    return Matched(chunk_size=chunk, effect=Effect.of(interval))


def _break_even(first: SideEvidence, second: SideEvidence) -> float | None:
    """Return the items scored before the slower-to-compile side catches up (rule 12); None: never, or not known."""
    starts = [side.cold_prepare_seconds for side in (first, second)]
    rates = [side.seconds_an_item for side in (first, second)]
    if starts[0] is None or starts[1] is None or rates[0] is None or rates[1] is None or rates[0] == rates[1]:
        return None
    items = (starts[0] - starts[1]) / (rates[1] - rates[0])
    return items if items >= 0 else None


def _why(state: TargetState) -> str:
    return f"{state.backend} on {state.label} was skipped ({state.reason}): {state.evidence}"
