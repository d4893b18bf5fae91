"""The evidence for each verdict: its gates, and how its rounds were measured."""

from __future__ import annotations

from scorematrix.compare.schema import Comparison, Contrast
from scorematrix.report.appendix import samples_anchor
from scorematrix.report.banner import evidence_anchor, verdict_word
from scorematrix.report.formatting import NONE, percent, significant, span
from scorematrix.report.html import Fragment, details, links, marked, paragraph, table


def evidence(comparison: Comparison) -> Fragment:
    """Return a line per comparison: gates passed, failed or open; folded below, each gate with its finding."""
    lines = "".join(f"<li>{_summary(c)}</li>" for c in comparison.contrasts)
    parts = Fragment(f'<ul class="trust">{lines}</ul>')
    for number, contrast in enumerate(comparison.contrasts):
        name = f"Evidence: {contrast.name}, {contrast.view} view"
        parts += details(name, evidence_anchor(number), _evidence(comparison, contrast))
    return parts


def _evidence(comparison: Comparison, contrast: Contrast) -> Fragment:
    """Return a comparison's gates with their findings, and links to the raw samples of both sides."""
    rows = [[g.name, g.status.upper().replace("_", " "), g.detail] for g in contrast.gates]
    sides = [s for s in comparison.sides if s.key in contrast.keys]
    ways = [(f"raw samples of {s.name} on {s.target}", samples_anchor(s)) for s in sides]
    return (
        paragraph(f"{verdict_word(contrast)}: {contrast.reason}.")
        + links(ways)
        + _turns(contrast)
        + table("Gates", ["gate", "status", "finding"], rows, (0, 1, 2))
    )


def _turns(contrast: Contrast) -> Fragment:
    """Return how the pairs were measured, and how much scatter comes from the machine and from the process."""
    turns = contrast.in_turns
    if turns is None:
        message = "These rounds ran one after the other, not in turns, so the intervals are wider."
        return paragraph(message) if contrast.effect else Fragment("")
    left_out = "excluded" if turns.only_clean else "included: too few turns were clean"
    every = turns.with_disturbed
    machine, process = (NONE if log is None else percent(log) for log in (turns.machine_log, turns.process_log))
    rows = [
        ["pairs of neighbouring turns", f"{turns.n_turns:,} in {turns.n_pairs} pairs of rounds"],
        ["disturbed by other processes", f"{turns.n_disturbed:,}, {left_out}" if turns.n_disturbed else "none"],
        ["ratio with all turns", f"{significant(every.ratio)} ({span(every.low, every.high)})" if every else NONE],
        ["scatter of neighbouring turns (machine)", machine],
        ["additional scatter between pairs (processes, slow changes of the machine)", process],
    ]
    return table("Turns", ["figure", "value"], rows, (0, 1))


def _summary(contrast: Contrast) -> str:
    """Return one line of the trust box, as markup."""
    head = f"{contrast.name}, {contrast.view}"
    if contrast.verdict == "deferred":
        return marked(f"{verdict_word(contrast)}: {head}: not checked yet, because a side was skipped")
    failed = [g.name for g in contrast.gates if g.status == "failed"]
    waiting = [g.name for g in contrast.gates if g.status in ("not_run", "undecided")]
    passed = sum(g.status == "passed" for g in contrast.gates)
    if failed:
        line = f"FAILED: {head}: {', '.join(failed)}"
    elif waiting and contrast.winner is None:
        line = f"UNDECIDED: {head}: {passed} of {len(contrast.gates)} gates passed; open: {', '.join(waiting)}"
    else:
        open_ = f"; open, and needed for a tie only: {', '.join(waiting)}" if waiting else ""
        line = f"PASSED: {head}: {passed} of {len(contrast.gates)} gates{open_}"
    return marked(line)
