"""What changed between two runs, as text: lines for the terminal, Markdown for notebooks and the newer run's folder."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from scorematrix.compare.run_diff import RunChange, RunRecord, SideChange, VerdictChange, compare_runs
from scorematrix.compare.schema import ChunkResult, Side
from scorematrix.report.banner import STATE_WORDS, verdict_word
from scorematrix.report.formatting import NONE, significant, span
from scorematrix.report.markdown import safe, table_lines
from scorematrix.results import RunStore

NOT_PAIRED = (
    "Rounds of two runs are not paired, so the change includes any difference in conditions, such as load or heat. "
    "Intervals are Welch's, over rounds, with each side at the chunk size that its run chose. Holm's correction covers "
    "all sides."
)
NOTHING_ELSE = "The recorded machine, software and settings are the same."
SIDE_COLUMNS = ("side", "target", "change", "chunk", "items/s before", "items/s now", "now / before", "95 %", "why")
VERDICT_COLUMNS = ("comparison", "view", "before", "now", "ratio before", "ratio now", "ratio of", "changed")
DIFFERENCE_COLUMNS = ("kind", "where", "what", "before", "now")


def open_change(old: RunStore, new: RunStore) -> RunChange:
    """Compare two runs of one plan, finished or not.

    Raises:
        ValueError: for a damaged run, or if the plans differ, naming the field and both values.
    """
    records = [
        RunRecord(word, store.folder.name, store.manifest(), store.workload(), store.readiness(), store.rounds())
        for word, store in (("OLD", old), ("NEW", new))
    ]
    return compare_runs(*records)


def write_change(change: RunChange, new: RunStore) -> Path:
    """Write the change as Markdown into the newer run's folder; return its path."""
    return new.write_text(f"change_since_{change.old.name}.md", change_markdown(change))


def change_lines(change: RunChange) -> list[str]:
    """Return lines for the terminal: a sentence per side, changed verdicts, other differences, every skip notice."""
    return [
        _head(change),
        *(side_sentence(side) for side in change.sides),
        *(_verdict_sentence(v) for v in change.verdicts if v.changed),
        *([] if any(v.changed for v in change.verdicts) else ["no verdict changed"]),
        *(f"different {d.kind}, {d.where}: {d.what}: {d.old} -> {d.new}" for d in change.differences),
        *(f"warning: {warning}" for warning in change.warnings),
        NOT_PAIRED,
        *_notices(change),
    ]


def change_word(side: SideChange) -> str:
    """Return a side's change in capitals; an undecided one is called as an undecided verdict is."""
    state = side.change.state
    return STATE_WORDS.get(state, state.replace("_", " ").upper())


def side_sentence(side: SideChange) -> str:
    """Return one side's change in a sentence, with a number only if its times are valid."""
    change, ratio, word = side.change, side.change.ratio, change_word(side)
    system = "" if side.same_device or ratio is None else "System comparison, "
    head = f"{system}{side.backend} {side.view} on {side.target}: "
    if ratio is None:
        no_change = ", no change is named" if change.state != "missing" else ""
        return f"{head}{word}{no_change}: {change.reason}."
    before, now = (best.n_rounds if (best := _best(version)) else 0 for version in (side.old, side.new))
    figures = (
        f"{ratio.center:.3f} times the earlier throughput "
        f"(95 % interval {ratio.low:.3f} to {ratio.high:.3f}, {before} rounds before, {now} now)"
    )
    if change.state in ("faster", "slower", "no_change"):
        return f"{head}{word}, {figures}."
    return f"{head}{word}, no change is named: {change.reason}. So far, {figures}."


def change_markdown(change: RunChange) -> str:
    """Return the change as Markdown, notices first."""
    lines = [f"# {safe(_head(change))}", "", *(f"- {safe(_run_line(run))}" for run in (change.old, change.new)), ""]
    lines += [f"> **{safe(notice)}**\n>" for notice in _notices(change)]
    lines += ["", "## Sides", "", *(f"- {safe(side_sentence(side))}" for side in change.sides), ""]
    lines += [*table_lines(SIDE_COLUMNS, _side_rows(change)), "", NOT_PAIRED]
    lines += ["", "## Verdicts", "", *table_lines(VERDICT_COLUMNS, [_verdict_row(v) for v in change.verdicts])]
    lines += ["", "## What else is different", ""]
    lines += table_lines(DIFFERENCE_COLUMNS, _difference_rows(change)) if change.differences else [NOTHING_ELSE]
    lines += ["", "## Warnings", "", *(f"- {safe(warning)}" for warning in change.warnings or ["none"])]
    return "\n".join(lines) + "\n"


def _head(change: RunChange) -> str:
    partial = "PARTIAL: " if change.old.comparison.partial or change.new.comparison.partial else ""
    return f"{partial}what changed from {change.old.name} (OLD) to {change.new.name} (NEW)"


def _run_line(run: RunRecord) -> str:
    c = run.comparison
    return f"{run.word}: {run.name}, started {c.created_utc}, {c.rounds_done} of {c.rounds_planned} rounds, {c.machine}"


def _side_rows(change: RunChange) -> list[list[str]]:
    rows = []
    for side in change.sides:
        judged, ratio = side.change, side.change.ratio
        word = change_word(side)
        if ratio is not None and not side.same_device:
            word += " (system comparison)"
        chunks = [str(version.best_chunk or "none") for version in (side.old, side.new)]
        rates = [_rate(version) if ratio is not None else NONE for version in (side.old, side.new)]
        figures = [f"{ratio.center:.3f}", f"{ratio.low:.3f} to {ratio.high:.3f}"] if ratio else [NONE, NONE]
        chunk = chunks[0] if chunks[0] == chunks[1] else " then ".join(chunks)
        rows.append([f"{side.backend} {side.view}", side.target, word, chunk, *rates, *figures, judged.reason])
    return rows


def _rate(side: Side) -> str:
    return significant(best.items_per_second) if (best := _best(side)) else NONE


def _best(side: Side) -> ChunkResult | None:
    return next((c for c in side.chunks if c.chunk_size == side.best_chunk), None)


def _verdict_row(verdict: VerdictChange) -> list[str]:
    verdicts = [verdict_word(c) for c in (verdict.old, verdict.new)]
    shown = [c.effect if c.verdict not in ("deferred", "invalid") else None for c in (verdict.old, verdict.new)]
    effects = [f"{significant(e.ratio)} ({span(e.low, e.high)})" if e else NONE for e in shown]
    return [
        verdict.new.name,
        verdict.new.view,
        *verdicts,
        *effects,
        verdict.new.ratio_name,
        "CHANGED" if verdict.changed else "the same",
    ]


def _verdict_sentence(verdict: VerdictChange) -> str:
    before, now = (verdict_word(c) for c in (verdict.old, verdict.new))
    return f"verdict changed from {before} to {now}: {verdict.new.sentence}"


def _difference_rows(change: RunChange) -> list[list[str]]:
    return [[d.kind, d.where, d.what, d.old, d.new] for d in change.differences]


def _notices(change: RunChange) -> Sequence[str]:
    """Return every skip notice of both runs, once if both have it."""
    notices = {run.word: [notice.text for notice in run.comparison.notices] for run in (change.old, change.new)}
    both = [text for text in notices["NEW"] if text in notices["OLD"]]
    only = [f"{word}: {text}" for word, texts in notices.items() for text in texts if text not in both]
    return [*only, *both]
