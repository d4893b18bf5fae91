"""Which framework is faster here, in this view? Each such question of a run, and its answer at each look."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from scorematrix.compare.controls import ControlEvidence, control_gates, judge_control
from scorematrix.compare.evidence import SideEvidence, paired_ratios
from scorematrix.compare.family import correct_family
from scorematrix.compare.gates import run_gates
from scorematrix.compare.looks import Looks
from scorematrix.compare.schema import Contrast, Effect, Gate, Matched
from scorematrix.compare.statistics import CONFIDENCE, Interval, geometric_interval
from scorematrix.compare.timing import timing_gates
from scorematrix.compare.verdict import Verdict, judge, sentence
from scorematrix.results import SERVER_VIEW, SIDES, Manifest, Readiness, TargetState
from scorematrix.workload.workload import Workload

SideKey = tuple[str, str, str]


@dataclass(frozen=True)
class Question:
    """One comparison of the params in one view, with all that does not change from look to look."""

    jax: SideEvidence
    pytorch: SideEvidence
    kind: Literal["framework", "system"]
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
    """One question per comparison of the params, and per view and pair of backends that stand for the frameworks."""
    found = []
    for choice in manifest.params["comparisons"]:
        for view, names in _opposed(manifest.params["backends"]):
            pair = [sides[name, view, choice[SIDES[name]]] for name in names]
            states = [readiness.state(side.target, side.backend) for side in pair]
            same = pair[0].target == pair[1].target
            labels = [state.label if state else side.target for state, side in zip(states, pair, strict=True)]
            servers = f", {names[0]} against {names[1]}" if view == SERVER_VIEW else ""
            found.append(
                Question(
                    *pair,
                    kind="framework" if same else "system",
                    where=(labels[0] if same else " against ".join(labels)) + servers,
                    skips=tuple(s for side in pair if (s := readiness.skip(side.target, side.backend))),
                    gates=(*run_gates(pair, workload, same), *timing_gates(pair, list(sides.values()), manifest)),
                    controls=tuple(c for c in controls if c.target in {side.target for side in pair}),
                    chunk_sizes=tuple(manifest.params["chunk_sizes"]),
                )
            )
    return found


def _opposed(backends: Sequence[Mapping[str, Any]]) -> list[tuple[str, tuple[str, str]]]:
    """Every view with a backend that stands for JAX in it and one that stands for PyTorch, in the params' order."""
    served = [(b["backend"], view) for b in backends for view in b["views"] if b["backend"] in SIDES]
    return [
        (view, (jax, pytorch))
        for jax, view in served
        for pytorch, its in served
        if SIDES[jax] == "jax" and SIDES[pytorch] == "pytorch" and view == its
    ]


def answer_all(questions: Sequence[Question], looks: Looks, margin: float) -> list[Contrast]:
    """Every question's answer at the first look that settles it, else at the last look that was reached."""
    settled: dict[int, Contrast] = {}
    found: list[Contrast] = []
    for count in looks.counts:
        asked = [settled.get(i) or answer(q, count, looks, margin) for i, q in enumerate(questions)]
        found = [settled.get(i, c) for i, c in enumerate(correct_family(asked, len(looks.counts)))]
        settled |= {i: c for i, c in enumerate(found) if not c.wants_rounds}
        if any(_missing(q, looks.indices(count)) for i, q in enumerate(questions) if i not in settled):
            break  # later looks come later
    return found


def answer(question: Question, count: int, looks: Looks, margin: float) -> Contrast:
    """One question at the look of so many confirmation rounds.

    Args:
        margin: the smallest difference that counts, as a fraction; the controls may widen it.
    """
    jax, pytorch = question.jax, question.pytorch
    indices = looks.indices(count)
    missing = _missing(question, indices)
    controls = [judge_control(c, indices, looks.confidence, margin, not missing) for c in question.controls]
    gates = [control_gates(c) for c in controls] if not question.skips else []
    widened = max([margin, *(c.margin for c in controls)])
    chosen = (jax, jax.best_chunk, pytorch, pytorch.best_chunk)
    interval = time_ratio(*chosen, indices=indices, confidence=looks.confidence)
    verdict = judge(
        missing_sides=[(_why(s), s.next_step or "see the evidence") for s in question.skips],
        gates=[*question.gates, *(own for own, _ in gates)],
        tie_gates=[slowed for _, slowed in gates],
        interval=interval,
        missing_rounds=missing,
        margin=widened,
        tie_margin=margin,
        confidence=looks.confidence,
    )
    verdict = _confirmed_in_cycles(question, verdict, indices, looks.confidence)
    sizes = {chunk for side in (jax, pytorch) for chunk in side.chunk_sizes} or set(question.chunk_sizes)
    matched = [_matched(jax, pytorch, chunk) for chunk in sorted(sizes)]
    rows = [row.effect.ratio for row in matched if row.effect]
    return Contrast(
        name=question.where,
        kind=question.kind,
        view=jax.view,
        jax_backend=jax.backend,
        pytorch_backend=pytorch.backend,
        jax_target=jax.target,
        pytorch_target=pytorch.target,
        jax_chunk=jax.best_chunk,
        pytorch_chunk=pytorch.best_chunk,
        verdict=verdict.state,
        sentence=sentence(question.where, question.kind, jax.view, verdict, interval),
        reason=verdict.reason,
        next_step=verdict.next_step,
        effect=Effect.of(interval),
        more_rounds=verdict.more_rounds,
        wants_rounds=verdict.wants_rounds,
        margin=widened,
        n_rounds=count,
        break_even_items=_break_even(jax, pytorch),
        matched=matched,
        # Never an average over incomplete rows (rule 26).
        matched_ratio=geometric_interval(rows).center if rows and len(rows) == len(matched) else None,
        gates=[*question.gates, *(gate for pair in gates for gate in pair)],
    )


def _confirmed_in_cycles(question: Question, verdict: Verdict, indices: range, confidence: float) -> Verdict:
    """A win on one GPU must be one in cycles too, time by clock: else it is a difference of clocks (rule 19)."""
    clocks = [side.clock_by_round() for side in (question.jax, question.pytorch)]
    if verdict.state not in ("jax", "pytorch") or question.kind == "system" or not all(clocks):
        return verdict
    cycles = [
        {
            i: seconds * own[i]
            for i, seconds in side.seconds_by_round(side.best_chunk).items()
            if i in own and i in indices
        }
        for side, own in zip((question.jax, question.pytorch), clocks, strict=True)
    ]
    ratios = list(paired_ratios(*cycles).values())
    found = geometric_interval(ratios, confidence) if len(ratios) > 1 else None
    if found is not None and (found.high < 1 if verdict.state == "jax" else found.low > 1):
        return verdict
    words = f"{found.center:.3f} ({found.low:.3f} to {found.high:.3f})" if found else "not told"
    reason = f"the difference in time is not one in GPU cycles (JAX over PyTorch {words}): the clocks differed"
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
    """The first's time over the second's, paired by round; None without a round of both.

    Args:
        indices: use these rounds only.
    """
    if over_chunk is None or under_chunk is None:
        return None
    ratios = paired_ratios(over.seconds_by_round(over_chunk), under.seconds_by_round(under_chunk))
    values = [ratio for index, ratio in ratios.items() if indices is None or index in indices]
    return geometric_interval(values, confidence) if values else None


def _missing(question: Question, indices: range) -> int:
    """Rounds of these indices that the side which lacks most still lacks."""
    return max(len(set(indices) - {r.index for r in side.confirm}) for side in (question.jax, question.pytorch))


def _matched(jax: SideEvidence, pytorch: SideEvidence, chunk: int) -> Matched:
    interval = time_ratio(jax, chunk, pytorch, chunk)
    if interval is None:
        return Matched(chunk_size=chunk, effect=None, reason="no round of both sides has this chunk size")
    return Matched(chunk_size=chunk, effect=Effect.of(interval))


def _break_even(jax: SideEvidence, pytorch: SideEvidence) -> float | None:
    """Items after which the side that takes longer to prepare has caught up (rule 12); None: never, or not known."""
    starts = [side.cold_prepare_seconds for side in (jax, pytorch)]
    rates = [side.seconds_an_item for side in (jax, pytorch)]
    if None in starts or None in rates or rates[0] == rates[1]:
        return None
    items = (starts[0] - starts[1]) / (rates[1] - rates[0])
    return items if items >= 0 else None


def _why(state: TargetState) -> str:
    return f"{state.backend} on {state.label} was skipped ({state.reason}): {state.evidence}"
