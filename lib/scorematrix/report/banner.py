"""What stands first in every summary: is this whole, what was skipped and why, what is the answer."""

from __future__ import annotations

from scorematrix.compare.schema import Comparison, Contrast
from scorematrix.report.elements import Fragment, commands, heading, link, table, text
from scorematrix.results.targets import Attempt

STATE_WORDS = {
    "jax": "JAX",
    "pytorch": "PYTORCH",
    "tie": "TIE",
    "not_enough_evidence": "UNDECIDED",
    "deferred": "DEFERRED",
    "invalid": "INVALID",
}


def verdict_word(contrast: Contrast) -> str:
    """A verdict in a word, or the winner's name."""
    return STATE_WORDS.get(contrast.verdict, contrast.verdict)


def title(comparison: Comparison) -> str:
    """The report's title; PARTIAL stands in it where something is missing."""
    sides = dict.fromkeys(side.label for c in comparison.contrasts for side in (c.first, c.second))
    return f"{'PARTIAL: ' if comparison.partial else ''}{' and '.join(sides) or 'Nothing'} on multi-item scoring"


def banner(comparison: Comparison) -> Fragment:
    """Title, completeness, and every skip notice with its reason and next step."""
    done = f"{comparison.rounds_done} of {comparison.rounds_planned} rounds that can run here are done."
    head = f"Partial report. {_missing(comparison)}" if comparison.partial else "Complete report."
    notices = "".join(
        f'<li><b class="mark skipped">SKIPPED</b> <b>{text(n.label)}</b>, {text(n.backend)} '
        f"({text(', '.join(n.views))}): {text(_reason(n.reason))}: <span>{text(n.evidence)}.</span>"
        f'<br><span class="next">Next step: {commands(n.next_step)}.</span> '
        f"{link('Attempts' if n.attempts else 'Details', f'skip-{i}', n.label)}</li>"
        for i, n in enumerate(comparison.notices)
    )
    kind = "partial" if comparison.partial else "complete"
    subtitle = f"Run {comparison.run_id}, {comparison.created_utc[:10]}, {comparison.machine}"
    return Fragment(
        f'<header><h1>{text(title(comparison))}</h1><p class="subtitle">{text(subtitle)}</p></header>'
        f'<section class="banner {kind}" role="status" aria-label="Completeness"><p>{text(head)} {text(done)}</p>'
        f"<ul>{notices}</ul></section>"
    )


def verdicts(comparison: Comparison) -> Fragment:
    """One sentence for each device and view."""
    rows = ""
    for number, contrast in enumerate(comparison.contrasts):
        word = verdict_word(contrast)
        kind = contrast.verdict if contrast.verdict in STATE_WORDS else "named"
        rows += (
            f'<li class="verdict {kind}"><span class="mark {STATE_WORDS.get(kind, kind).lower()}">{text(word)}</span> '
            f"<span>{text(contrast.sentence)}</span> "
            f"{link('Evidence', evidence_anchor(number), f'{contrast.name}, {contrast.view} view')}</li>"
        )
    return heading("Verdict", "verdict") + Fragment(f'<ul class="verdicts">{rows}</ul>')


def evidence_anchor(number: int) -> str:
    """Where the evidence of the comparison with this number stands."""
    return f"evidence-{number}"


def notices_again(comparison: Comparison) -> Fragment:
    """The last cell: the notices once more, so that no summary ends without them."""
    if not comparison.notices:
        return Fragment("<p>Nothing was skipped.</p>")
    rows = "".join(f'<li id="skip-{i}">{text(n.text)}</li>' for i, n in enumerate(comparison.notices))
    return (
        heading("Skipped", "skipped")
        + Fragment(f"<ul>{rows}</ul>")
        + _attempts({notice.label: notice.attempts for notice in comparison.notices if notice.attempts})
    )


def _attempts(by_target: dict[str, list[Attempt]]) -> Fragment:
    """Every attempt at a machine; nothing where none is on record."""
    rows = [
        [label, a.at_utc[:10], a.zone, a.machine_type, a.outcome.upper().replace("_", " "), a.kind or "", a.text]
        for label, attempts in by_target.items()
        for a in attempts
    ]
    columns = ["target", "date", "zone", "machine", "outcome", "class", "what the cloud said"]
    return table("Attempts to get the machines", columns, rows, words=range(7)) if rows else Fragment("")


def _missing(comparison: Comparison) -> str:
    labels = list(dict.fromkeys(notice.label for notice in comparison.notices))
    if not labels:
        return "The run is not finished."
    return f"Skipped: {' and '.join(labels)}. Verdicts that need {'it' if len(labels) == 1 else 'them'} are deferred."


def _reason(reason: str) -> str:
    return {
        "quota": "no quota (quota)",
        "capacity": "no free capacity in the zone (capacity)",
        "no_device": "this machine has no such device (no_device)",
        "not_installed": "a package is missing (not_installed)",
        "unsupported": "it cannot run there (unsupported)",
        "by_user": "excluded on request (by_user)",
        "permission": "this account lacks the permission (permission)",
        "in_use": "another process holds the device (in_use)",
        "no_answer": "no server answers at this address (no_answer)",
        "unknown": "refused for an unknown reason (unknown)",
    }[reason]
