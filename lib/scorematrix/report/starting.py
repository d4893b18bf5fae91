"""What is paid before the first request, when it has paid off, and what a million items cost."""

from __future__ import annotations

from scorematrix.compare.schema import Comparison, Start
from scorematrix.report.drawing import canvas, legend, nothing
from scorematrix.report.elements import Fragment, figure, heading, paragraph, table
from scorematrix.report.ink import NONE, significant

KINDS = {"compiled": "cold compile", "from_cache": "from the cache", "nothing_to_compile": "nothing to compile"}
PARTS = (
    ("load_seconds", "load model and backend", "#BBBBBB", ""),
    ("trace_seconds", "trace", "#88CCEE", "//"),
    ("compile_seconds", "compile", "#CC6677", ""),
    ("other_seconds", "first runs and the rest", "#DDCC77", ".."),
)


def starting(comparison: Comparison) -> Fragment:
    """The section: starting up, and cost."""
    return (
        heading("Starting up", "starting") + start_bars(comparison) + start_table(comparison) + break_even(comparison)
    )


def start_bars(comparison: Comparison) -> Fragment:
    """Where the time before the first request goes, one bar a side and kind of start."""
    rows = _rows(comparison)
    if not rows:
        return nothing("Starting up", "no round is recorded yet")
    drawing, (axes,) = canvas(0.9 + 0.42 * len(rows))
    left = [0.0] * len(rows)
    for part, label, colour, hatch in PARTS:
        widths = [getattr(start, part) for _, start in rows]
        axes.barh(range(len(rows)), widths, left=left, color=colour, hatch=hatch, edgecolor="white", label=label)
        left = [a + b for a, b in zip(left, widths, strict=True)]
    axes.set_yticks(range(len(rows)), [label for label, _ in rows])
    axes.invert_yaxis()
    axes.grid(axis="y", visible=False)
    axes.set_xlabel("seconds before the first timed call")
    legend(axes)
    words = "The slowest of the rounds that compiled; the median of the others."
    return figure(drawing, "starting-bars", "Time to the first request", words)


def start_table(comparison: Comparison) -> Fragment:
    """The same as figures."""
    columns = ["side", "rounds", "programs", "load s", "trace s", "compile s", "rest s"]
    rows = [
        [
            label,
            str(start.n_rounds),
            str(start.n_programs),
            *(significant(getattr(start, part)) for part, *_ in PARTS),
        ]
        for label, start in _rows(comparison)
    ]
    rows += [[f"{s.backend} {s.view} on {s.target}", *([NONE] * 6)] for s in comparison.sides if not s.starts]
    return table("Before the first request", columns, rows)


def break_even(comparison: Comparison) -> Fragment:
    """Show after how many items the slower-to-compile side catches up; nothing without an effect."""
    rows = [
        [f"{c.name}, {c.view}", "never" if c.break_even_items is None else significant(c.break_even_items)]
        for c in comparison.contrasts
        if c.effect is not None
    ]
    caption = "Break-even: items scored before the slower-to-compile side catches up"
    return table(caption, ["comparison", "items"], rows) if rows else Fragment("")


def cost(comparison: Comparison) -> Fragment:
    """Dollars for a million items, and energy; a figure only with a price's source and date (rule 39)."""
    prices = comparison.params.get("prices") or {}
    head = heading("Cost", "cost")
    watts = any(side.watts is not None for side in comparison.sides)
    if not prices and not watts:
        return head + paragraph(
            "No cost: add a dated, sourced price to the params. No energy: only NVIDIA GPUs report it.",
            "note",
        )
    columns = ["side", "target", "$ an hour", "$ a million items", "GPU W"]
    rows = [
        [
            f"{s.backend} {s.view}",
            s.target,
            significant(prices[s.target]["usd_per_hour"]) if s.target in prices else NONE,
            significant(s.usd_per_million_items),
            significant(s.watts),
        ]
        for s in comparison.sides
    ]
    sources = "; ".join(f"{target}: {price['source']}, {price['date']}" for target, price in prices.items())
    below = paragraph(f"Prices: {sources}.", "note") if sources else Fragment("")
    return head + table("Cost and power at the chosen chunk size", columns, rows, words=(0, 1)) + below


def _rows(comparison: Comparison) -> list[tuple[str, Start]]:
    return [
        (f"{side.backend} {side.view} on {side.target}, {KINDS[start.kind]}", start)
        for side in comparison.sides
        for start in side.starts
    ]
