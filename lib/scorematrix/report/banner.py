"""The first screen of a report: what is missing and why, who is faster, what was measured."""

from __future__ import annotations

from collections.abc import Sequence

from scorematrix.compare.schema import Comparison, Contrast
from scorematrix.report.formatting import counted, lengths
from scorematrix.report.html import Fragment, commands, heading, link, table, text
from scorematrix.results.schema import SERVER_VIEW
from scorematrix.results.target_records import Attempt

STATE_WORDS = {
    "jax": "JAX",
    "pytorch": "PYTORCH",
    "winner": "WINNER",
    "tie": "TIE",
    "not_enough_evidence": "UNDECIDED",
    "deferred": "DEFERRED",
    "invalid": "INVALID",
}
CONTENTS = "<!-- contents -->"
"""Where the exporter puts the list of contents."""
LONGEST_REASON = 280
MOST_WARNINGS = 3


def verdict_word(contrast: Contrast) -> str:
    """Return a verdict as one word, or the winner's name."""
    return STATE_WORDS.get(contrast.outcome, contrast.outcome)


def title(comparison: Comparison) -> str:
    """Return the report's title. It starts with PARTIAL if something is missing."""
    sides = [side for c in comparison.contrasts for side in (c.first, c.second)]
    served = dict.fromkeys(side.label for side in sides if side.view == SERVER_VIEW)
    names = list(dict.fromkeys(side.label for side in sides if side.view != SERVER_VIEW))
    names += ["live servers"] if names and served else served
    listed = " and ".join([", ".join(names[:-1]), *names[-1:]] if len(names) > 1 else names)
    return f"{'PARTIAL: ' if comparison.partial else ''}{listed or 'Nothing'} on multi-item scoring"


def summary(comparison: Comparison, versions: str = "", hint: str = "") -> Fragment:
    """Return the first screen: what is missing, a card per comparison, what was measured, the contents.

    Args:
        versions: the versions of the measured software.
        hint: a sentence above everything else; text between backticks is set as code.
    """
    above = f'<p class="note">{commands(hint)}</p>' if hint else ""
    return (
        Fragment(f"<header><h1>{text(title(comparison))}</h1>{above}</header>")
        + banner(comparison)
        + cards(comparison)
        + _warnings(comparison)
        + _facts(comparison, versions)
        + Fragment(CONTENTS)
    )


def banner(comparison: Comparison) -> Fragment:
    """Return completeness, and every skip with its reason and next step."""
    done = f"{comparison.rounds_done} of {comparison.rounds_planned} rounds that can run here are done."
    head = f"Partial report. {_missing(comparison)}" if comparison.partial else "Complete report."
    notices = "".join(
        f'<li><b class="mark skipped">SKIPPED</b> <b>{text(n.label)}</b>, {text(n.backend)}: {text(_reason(n.reason))}.'
        f' <span class="next">Next: {commands(n.next_step)}.</span> '
        f"{link('Attempts' if n.attempts else 'Details', f'skip-{i}', n.label)}</li>"
        for i, n in enumerate(comparison.notices)
    )
    kind = "partial" if comparison.partial else "complete"
    return Fragment(
        f'<section class="banner {kind}" role="status" aria-label="Completeness"><p>{text(head)} {text(done)}</p>'
        f"<ul>{notices}</ul></section>"
    )


def cards(comparison: Comparison) -> Fragment:
    """Return a card per comparison: the answer, ratio and interval, the reason, the next step.

    Deferred comparisons come last; the deferred views of one comparison share a card.
    """
    cards_ = {}
    for number, contrast in sorted(enumerate(comparison.contrasts), key=lambda one: one[1].verdict == "deferred"):
        key = contrast.name if contrast.verdict == "deferred" else number
        cards_.setdefault(key, []).append((number, contrast))
    shown = "".join(map(_card, cards_.values()))
    return Fragment(f'<section class="cards" id="verdict" aria-label="Verdicts">{shown}</section>')


def _card(same: Sequence[tuple[int, Contrast]]) -> str:
    contrast = same[0][1]
    answer, figures = _answer(contrast)
    kind = contrast.verdict if contrast.verdict in STATE_WORDS else "named"
    views = " and ".join(c.view for _, c in same)
    where = f"{contrast.name}, {views} view{'s' if len(same) > 1 else ''}"
    reason = contrast.reason if len(contrast.reason) <= LONGEST_REASON else f"{contrast.reason[:LONGEST_REASON]}…"
    mark = f'<span class="mark {STATE_WORDS.get(kind, kind).lower()}">{text(verdict_word(contrast))}</span>'
    links = " ".join(
        link("Evidence" if len(same) == 1 else f"Evidence, {c.view}", evidence_anchor(n), f"{c.name}, {c.view} view")
        for n, c in same
    )
    step = contrast.next_step if contrast.winner is None and contrast.verdict not in ("tie", "deferred") else None
    return (
        f'<article class="card {kind}"><h2 class="question">{text(where)}</h2>'
        f'<p class="answer">{mark} {text(answer)}</p>'
        + (f"<p>{text(figures)}</p>" if figures else "")
        + f'<p class="why">Why: {text(reason)}. {links}</p>'
        + (f'<p class="why">Next: {commands(step)}.</p>' if step else "")
        + "</article>"
    )


def _answer(contrast: Contrast) -> tuple[str, str]:
    """Return the short answer, and the figures behind it."""
    first, second, effect = contrast.first.label, contrast.second.label, contrast.effect
    none = f"No winner between {first} and {second}." if contrast.kind == "server" else "No winner."
    if contrast.verdict in ("deferred", "invalid") or effect is None:
        return none, ""
    if (winner := contrast.winner) is not None:
        loser, speed = (second, effect.inverse) if winner == contrast.first else (first, effect)
        figures = f"95 % interval {speed.low:.2f} to {speed.high:.2f}, {effect.n_rounds} pairs of rounds."
        return f"{winner.label} is {speed.ratio:.2f} times as fast as {loser}.", figures
    speed = effect.inverse
    figures = (
        f"{first}'s speed is {speed.ratio:.3f} times {second}'s "
        f"(95 % interval {speed.low:.3f} to {speed.high:.3f}, {effect.n_rounds} pairs of rounds)."
    )
    if contrast.verdict == "tie":
        return f"{first} and {second} are equally fast.", figures
    return "No winner.", f"So far, {figures}"


def _facts(comparison: Comparison, versions: str) -> Fragment:
    """Return the model, workload, hardware, software versions and run id."""
    w, devices = comparison.workload, dict.fromkeys(s.device for s in comparison.sides if s.device)
    dtypes = dict.fromkeys(s.dtype for s in comparison.sides if s.dtype)
    size = f"{counted(w.n_requests, 'query', 'queries')} of {lengths(w.query_tokens)} tokens, "
    size += f"{counted(w.n_items, 'item', 'items')} of {lengths(w.item_tokens)} tokens"
    rows = [
        ("Model", ", ".join([comparison.params["model"], *dtypes])),
        ("Workload", f"{w.name}: {size}"),
        ("Hardware", "; ".join([comparison.machine, *(d for d in devices if d.lower() not in ("cpu", "cpu:0"))])),
        ("Versions", versions),
        ("Run", f"{comparison.run_id}, {comparison.created_utc[:10]}"),
    ]
    cells = "".join(f"<div><dt>{text(name)}</dt><dd>{text(value)}</dd></div>" for name, value in rows if value)
    return Fragment(f'<dl class="facts">{cells}</dl>')


def _warnings(comparison: Comparison) -> Fragment:
    """Return the most serious warnings if a verdict is open. The limits section lists all of them."""
    is_open = any(c.verdict in ("not_enough_evidence", "invalid") for c in comparison.contrasts)
    if not comparison.warnings or not is_open:
        return Fragment("")
    shown = "".join(f"<li>{text(warning)}</li>" for warning in comparison.warnings[:MOST_WARNINGS])
    return Fragment(f'<ul class="warnings" aria-label="Warnings">{shown}</ul>')


def evidence_anchor(number: int) -> str:
    """Return the anchor of a comparison's evidence, by its number."""
    return f"evidence-{number}"


def notices_again(comparison: Comparison) -> Fragment:
    """Return the skip notices again for the last cell, so that no summary ends without them."""
    if not comparison.notices:
        return Fragment("<p>Nothing was skipped.</p>")
    rows = "".join(f'<li id="skip-{i}">{commands(n.text)}</li>' for i, n in enumerate(comparison.notices))
    return (
        heading("Skipped", "skipped")
        + Fragment(f"<ul>{rows}</ul>")
        + _attempts({notice.label: notice.attempts for notice in comparison.notices if notice.attempts})
    )


def _attempts(by_target: dict[str, list[Attempt]]) -> Fragment:
    """Return every attempt to get a machine; empty if none is recorded."""
    rows = [
        [label, a.at_utc[:10], a.zone, a.machine_type, a.outcome.upper().replace("_", " "), a.kind or "", a.text]
        for label, attempts in by_target.items()
        for a in attempts
    ]
    columns = ["target", "date", "zone", "machine", "outcome", "class", "message from the cloud"]
    return table("Attempts to get the machines", columns, rows, text_columns=range(7)) if rows else Fragment("")


def _missing(comparison: Comparison) -> str:
    labels = list(dict.fromkeys(notice.label for notice in comparison.notices))
    if not labels:
        return "The run is not finished."
    return f"Skipped: {' and '.join(labels)}. Verdicts that need {'it' if len(labels) == 1 else 'them'} are deferred."


def _reason(reason: str) -> str:
    return {
        "quota": "no quota (quota)",
        "capacity": "no free capacity in the zone (capacity)",
        "no_device": "no such device here (no_device)",
        "not_installed": "a package is missing (not_installed)",
        "unsupported": "it cannot run there (unsupported)",
        "by_user": "excluded on request (by_user)",
        "permission": "this account lacks the permission (permission)",
        "in_use": "another process uses the device (in_use)",
        "no_answer": "no server answers at this address (no_answer)",
        "unknown": "refused for an unknown reason (unknown)",
    }[reason]
