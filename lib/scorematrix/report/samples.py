"""The raw samples of one cell: every timed request, in the order of measuring, and every call behind it as text."""

from __future__ import annotations

from collections.abc import Sequence

from scorematrix.report.drawing import canvas, legend
from scorematrix.report.elements import Fragment, figure, table
from scorematrix.report.ink import milliseconds
from scorematrix.results.cells import Cell
from scorematrix.results.figures import pass_seconds, request_seconds
from scorematrix.results.schema import Round

MOST_CALLS = 24
MARKS = {"warm-up": ("x", "#999999"), "timed": ("o", "#0072B2")}


def samples_page(name: str, cells: Sequence[tuple[Round, Cell]]) -> Fragment:
    """A cell over its rounds, in order of measuring: warm-up, timed passes, failures in words."""
    rows, spots = [], {"warm-up": ([], []), "timed": ([], [])}
    for round_, cell in sorted(cells, key=lambda one: one[0].position):
        if cell.status != "ok":
            rows.append([round_.name, round_.role, f"{cell.status.upper()}: {cell.error}", "", "", ""])
        for kind, passes in (("warm-up", cell.warmup_ns), ("timed", cell.call_ns)):
            for p, one_pass in enumerate(passes):
                seconds = request_seconds([one_pass])
                spots[kind][0].extend([len(rows)] * len(seconds))
                spots[kind][1].extend(value * 1e3 for value in seconds)
                (whole,) = pass_seconds([one_pass])
                rows.append([round_.name, round_.role, kind, str(p), milliseconds(whole), _calls(one_pass)])
    columns = ["round", "role", "kind", "pass", "ms a pass", "nanoseconds of each call; requests apart by ;"]
    return _drawing(name, spots, rows) + table(f"Raw samples of {name}", columns, rows, words=(0, 1, 2, 3, 5))


def _calls(one_pass: Sequence[Sequence[int]]) -> str:
    """Every call as it was read off the clock, up to so many; the rest is in the round's file."""
    words = [f"{ns:,}" + (";" if i == len(request) - 1 else "") for request in one_pass for i, ns in enumerate(request)]
    more = f" and {len(words) - MOST_CALLS} more in rounds/*.json" if len(words) > MOST_CALLS else ""
    return " ".join(words[:MOST_CALLS]).removesuffix(";") + more


def _drawing(name: str, spots: dict[str, tuple[list[int], list[float]]], rows: Sequence[Sequence[str]]) -> Fragment:
    drawing, (axes,) = canvas(3.6)
    for kind, (places, values) in spots.items():
        marker, colour = MARKS[kind]
        axes.plot(places, values, marker, color=colour, markersize=5, alpha=0.8, label=f"{kind} (n={len(values)})")
    starts = [i for i, row in enumerate(rows) if i == 0 or row[0] != rows[i - 1][0]]
    for start in starts[1:]:
        axes.axvline(start - 0.5, color="#BBBBBB", linewidth=0.8)
    labels = [f"{rows[i][1]}\n{rows[i][0].rsplit('.', 1)[-1]}" for i in starts]
    axes.set_xticks(starts, labels, fontsize=8)
    axes.set_ylim(bottom=0)
    axes.set_ylabel("ms of one request")
    legend(axes)
    words = "Each mark is one request with all its calls. Each column is a pass, in execution order."
    return figure(drawing, "samples", f"Every sample of {name}", words)
