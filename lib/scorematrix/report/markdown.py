"""report.md: the same facts for a pull request or a chat."""

from __future__ import annotations

import re
from collections.abc import Sequence

from scorematrix.compare.schema import Comparison, Contrast
from scorematrix.report.banner import title, verdict_word
from scorematrix.report.formatting import NONE, milliseconds, significant, small, span


def render_markdown(comparison: Comparison) -> str:
    """Return the run as Markdown, notices first."""
    c = comparison
    lines = [
        f"# {title(c)}",
        "",
        f"Run `{c.run_id}`, {c.rounds_done} of {c.rounds_planned} rounds, {safe(c.machine)}.",
        "",
    ]
    lines += [f"> **{safe(notice.text)}**\n>" for notice in c.notices]
    lines += ["", "## Verdict", ""]
    lines += [f"- {safe(contrast.sentence)}" for contrast in c.contrasts]
    head = ["comparison", "view", "verdict", "ratio (95 %)", "ratio of", "why"]
    lines += ["", *table_lines(head, [_verdict(contrast) for contrast in c.contrasts]), "", "## Throughput", ""]
    rows = []
    for side in c.sides:
        name = side.name
        if not side.chunks:
            rows.append([name, side.target, NONE, "DEFERRED" if side.state == "skipped" else NONE, NONE, NONE])
        for cell in side.chunks:
            star = " (chosen)" if cell.chunk_size == side.best_chunk else ""
            p50 = next((p.value_seconds for p in cell.latency if p.percent == 50), None)
            figure = significant(cell.items_per_second) if cell.status == "ok" else f"{cell.status}: {cell.error}"
            interval = span(cell.items_per_second_low, cell.items_per_second_high)
            rows.append([name, side.target, f"{cell.chunk_size}{star}", figure, interval, milliseconds(p50)])
    lines += table_lines(["side", "target", "chunk", "items/s", "95 %", "p50 ms per request"], rows)
    lines += ["", "## Gates", ""]
    gates = [[g.name, f"{k.name}, {k.view}", g.status, g.detail] for k in c.contrasts for g in k.gates]
    lines += table_lines(["gate", "comparison", "status", "finding"], gates)
    lines += ["", "## Accuracy", ""]
    accuracy = [[s.name, s.target, small(s.max_difference), significant(s.auc)] for s in c.sides]
    lines += table_lines(["side", "target", "largest difference from float32 reference", "AUC"], accuracy)
    lines += [
        "",
        f"Params `{c.params_sha256[:12]}`, workload `{c.workload.sha256[:12]}`, "
        f"weights `{(c.weights_sha256 or NONE)[:13]}`.",
    ]
    lines += [f"\nWarning: {safe(warning)}." for warning in c.warnings]
    return "\n".join(lines) + "\n"


def _verdict(contrast: Contrast) -> list[str]:
    effect = contrast.effect
    ratio = f"{significant(effect.ratio)} ({span(effect.low, effect.high)})" if effect else NONE
    return [contrast.name, contrast.view, verdict_word(contrast), ratio, contrast.ratio_name, contrast.reason]


def table_lines(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Return the lines of a table, its cells escaped."""
    return [
        "| " + " | ".join(columns) + " |",
        "|" + "---|" * len(columns),
        *("| " + " | ".join(safe(value) for value in row) + " |" for row in rows),
    ]


def safe(value: str) -> str:
    """Return text from data, escaped so that it cannot end a cell or a line, or become markup other than code."""
    parts = re.split(r"(`[^`|\\<>\[\]]+`)", " ".join(str(value).split()))
    return "".join(part if i % 2 else _escaped(part) for i, part in enumerate(parts))


def _escaped(text: str) -> str:
    return re.sub(r"[\\|`\[\]]", r"\\\g<0>", text).replace("<", "&lt;").replace(">", "&gt;")
