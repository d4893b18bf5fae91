"""Evidence for the times: gates, controls, isolation, tuning effort."""

from __future__ import annotations

from scorematrix.compare.schema import Comparison, Contrast, Effect
from scorematrix.report.appendix import samples_anchor
from scorematrix.report.banner import evidence_anchor, verdict_word
from scorematrix.report.elements import Fragment, details, heading, links, marked, paragraph, table
from scorematrix.report.ink import NONE, form_times, percent, significant, small, span


def gates(comparison: Comparison) -> Fragment:
    """The trust box: how many gates each verdict has passed, which not; below, each gate with what was found."""
    asked = [c for c in comparison.contrasts if c.verdict != "deferred"]
    names = list(dict.fromkeys(gate.name for c in asked for gate in c.gates))
    rows = [[name, *(_status(c, name) for c in asked)] for name in names]
    columns = ["gate", *(f"{c.name}, {c.view}" for c in asked)]
    found = table("Gates of each comparison", columns, rows, words=range(len(columns)))
    parts = Fragment("")
    for number, contrast in enumerate(comparison.contrasts):
        parts += details(f"Evidence: {contrast.name}, {contrast.view} view", evidence_anchor(number),
                         evidence(comparison, contrast))  # fmt: skip
    return (
        heading("Trust", "trust")
        + paragraph(
            "A failed gate voids the verdict. A winner needs all gates but the slowdown control; a tie needs all."
        )
        + Fragment(f'<ul class="trust">{"".join(f"<li>{_summary(c)}</li>" for c in comparison.contrasts)}</ul>')
        + (found if rows else Fragment(""))
        + parts
    )


def evidence(comparison: Comparison, contrast: Contrast) -> Fragment:
    """What a verdict rests on: its gates as found, and the way to the raw samples of both sides."""
    rows = [[g.name, g.status.upper().replace("_", " "), g.detail] for g in contrast.gates]
    sides = [s for s in comparison.sides if (s.backend, s.view, s.target) in contrast.keys]
    ways = [(f"raw samples of {s.backend} {s.view} on {s.target}", samples_anchor(s)) for s in sides]
    return (
        paragraph(f"{verdict_word(contrast)}: {contrast.reason}.")
        + links(ways)
        + _turns(contrast)
        + table("Gates", ["gate", "status", "found"], rows, (0, 1, 2))
    )


def _turns(contrast: Contrast) -> Fragment:
    """How the pairs were measured, and whether machine or process is what scatters."""
    found = contrast.in_turns
    if found is None:
        return paragraph("These rounds ran one after the other, not in turns, so the intervals are wider.")
    left_out = "excluded" if found.only_clean else "included: too few turns were clean"
    every = found.with_disturbed
    machine, process = (NONE if log is None else percent(log) for log in (found.machine_log, found.process_log))
    rows = [
        ["pairs of neighbouring turns", f"{found.n_turns:,} in {found.n_pairs} pairs of rounds"],
        ["disturbed by other processes", f"{found.n_disturbed:,}, {left_out}" if found.n_disturbed else "none"],
        ["ratio with all turns", f"{significant(every.ratio)} ({span(every.low, every.high)})" if every else NONE],
        ["scatter of neighbouring turns (machine)", machine],
        ["additional scatter between pairs (process)", process],
    ]
    return table("Turns", ["figure", "value"], rows, (0, 1))


def controls(comparison: Comparison) -> Fragment:
    """A backend against itself, and against itself slowed: does the instrument see what is, and nothing else?"""
    rows = []
    for c in comparison.controls:
        where = f"{c.backend} {c.view}" + (f", chunk {c.chunk_size}" if c.chunk_size else "")
        rows.append([where, c.target, "unchanged (A/A)", *_control(c.itself, c.itself_verdict), percent(c.margin)])
        slowed = f"slowed by {c.slowdown - 1:.0%}" if c.slowdown else "slowed"
        rows.append([where, c.target, slowed, *_control(c.slowed, c.slowed_verdict), percent(c.margin)])
    head = heading("Controls", "controls")
    if not rows:
        return head + paragraph("No controls: this run has no control rounds.")
    note = (
        "A fresh process repeats a side and alternates with it, call by call. If it differs from itself, the verdicts "
        "are void. A tie requires that the slowdown was found. The decision margin is at least the largest bias that "
        "the A/A interval allows."
    )
    columns = ["backend", "target", "control", "result", "ratio", "95 % interval", "margin"]
    return (
        head + table("Time of a side / time of its repetition", columns, rows, (0, 1, 2, 3)) + paragraph(note, "note")
    )


def isolation(comparison: Comparison) -> Fragment:
    """How far an item's score moves when only its neighbours change, for every backend."""
    rows = [
        [f"{s.backend} {s.view}", s.target, small(s.neighbours_moved), small(s.chunks_moved), small(s.max_difference)]
        for s in comparison.sides
    ]
    columns = ["side", "target", "other neighbours and order", "other chunk size", "from the reference, at most"]
    note = (
        "First test: each call's items in reverse order, every second one with other tokens. Second test: the same "
        "items in calls of other sizes. The scores of unchanged items may move by rounding only. `scorematrix audit` "
        "tests more."
    )
    return (
        heading("Isolation", "isolation", 3)
        + table("Largest change of a probability when only an item's neighbours change", columns, rows, words=(0, 1))
        + paragraph(note, "note")
    )


def effort(comparison: Comparison) -> Fragment:
    """What was tried and how long that took, and whether the timed processes had settled."""
    rows = [
        [
            f"{s.backend} {s.view}",
            s.target,
            str(s.tuning_configurations) if s.tuning_configurations else NONE,
            significant(s.tuning_seconds / 60) if s.tuning_configurations else NONE,
            s.waiting or "nothing to choose",
            form_times(s) or "nothing to choose",
            ", ".join(f"{n} {name}" for name, n in s.steadiness.items()) or "not tested",
        ]
        for s in comparison.sides
    ]
    columns = ["side", "target", "configurations tried", "minutes", "threads wait", "attention", "rounds by steadiness"]
    return table("Tuning effort and steadiness", columns, rows, words=(0, 1, 4, 5, 6))


def _summary(contrast: Contrast) -> str:
    """One line of the trust box, as markup."""
    head = f"{contrast.name}, {contrast.view}"
    if contrast.verdict == "deferred":
        return marked(f"{verdict_word(contrast)}: {head}: not checked yet, because a side was skipped")
    failed = [g.name for g in contrast.gates if g.status == "failed"]
    waiting = [g.name for g in contrast.gates if g.status in ("not_run", "undecided")]
    passed = sum(g.status == "passed" for g in contrast.gates)
    if failed:
        words = f"FAILED: {head}: {', '.join(failed)}"
    elif waiting and contrast.winner is None:
        words = f"UNDECIDED: {head}: {passed} of {len(contrast.gates)} gates passed; open: {', '.join(waiting)}"
    else:
        open_ = f"; open, and needed for a tie only: {', '.join(waiting)}" if waiting else ""
        words = f"PASSED: {head}: {passed} of {len(contrast.gates)} gates{open_}"
    return marked(words)


def _status(contrast: Contrast, name: str) -> str:
    found = [g.status for g in contrast.gates if g.name == name]
    return found[0].upper().replace("_", " ") if found else "n/a"


def _control(effect: Effect | None, verdict: str) -> list[str]:
    word = {
        "tie": "no difference",
        "difference": "FAILED: a difference",
        "found": "found",
        "missed": "FAILED: missed",
        "undecided": "UNDECIDED",
        "not_run": "NOT RUN",
    }[verdict]
    return [word, significant(effect.ratio) if effect else NONE, span(effect.low, effect.high) if effect else NONE]
