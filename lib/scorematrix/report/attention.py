"""Attention masks of two layouts as small matrices, and what each layout computes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from scorematrix.analysis.style import STYLE, describe
from scorematrix.report.html import Fragment, figure, paragraph, table

PAIRS = (
    ("never computed", "#FFFFFF"),
    ("computed, then masked away", "#D9D9D9"),
    ("sees the query", "#0072B2"),
    ("sees its item", "#E69F00"),
)
"""Name and colour, indexed by the numbers of `scoring.visibility`. The colours differ in lightness too."""
COUNTED = ("layout", "sequences", "tokens computed", "padding tokens", "pairs computed")
READABLE = 64
"""Most tokens for which the rows are labelled with the tokens themselves."""


@dataclass(frozen=True)
class LayoutMatrix:
    """One layout to draw.

    Attributes:
        pair_tu: which kind of pair, see `PAIRS`.
        parts: (name, tokens) of the query, each item and the padding, in order.
        pieces: the tokens' text, in order; empty for padding.
    """

    title: str
    pair_tu: np.ndarray
    parts: Sequence[tuple[str, int]]
    pieces: Sequence[str]


def attention_page(matrices: Sequence[LayoutMatrix], counts: Mapping[str, Mapping[str, Sequence[int]]]) -> Fragment:
    """Return the drawing, then a table per request of what each layout computes.

    Args:
        matrices: one per layout.
        counts: sequences, tokens, padding tokens and pairs that each layout computes, by the name of a request.
    """
    page = _drawing(matrices)
    for name, layouts in counts.items():
        rows = [[layout, *(f"{n:,}" for n in numbers)] for layout, numbers in layouts.items()]
        page += table(f"What each layout computes per layer for {name}", COUNTED, rows)
    return page


def _drawing(matrices: Sequence[LayoutMatrix]) -> Fragment:
    with matplotlib.rc_context({**STYLE, "axes.grid": False}):
        drawing = Figure(figsize=(5.4 * len(matrices), 6.2), layout="constrained")
        for axes, matrix in zip(drawing.subplots(1, len(matrices), squeeze=False)[0], matrices, strict=True):
            _matrix(axes, matrix)
        patches = [Patch(facecolor=colour, edgecolor="#555555", label=name) for name, colour in PAIRS]
        drawing.legend(handles=patches, loc="outside lower center", ncols=len(PAIRS), frameon=False)
    spoken = "; ".join(
        f"{m.title}: " + ", ".join(f"{int((m.pair_tu == i).sum())} {name}" for i, (name, _) in enumerate(PAIRS))
        for m in matrices
    )
    caption = "Rows are query positions, columns are key positions. No item sees another item."
    return figure(describe(drawing, "Attention masks", f"{caption} Pairs: {spoken}.")) + paragraph(caption, "note")


def _matrix(axes: Axes, matrix: LayoutMatrix) -> None:
    n = len(matrix.pair_tu)
    axes.imshow(matrix.pair_tu, cmap=ListedColormap([c for _, c in PAIRS]), vmin=0, vmax=len(PAIRS) - 1,
                interpolation="nearest")  # fmt: skip
    edges = np.cumsum([0, *(length for _, length in matrix.parts)])
    for edge in edges[1:-1]:
        axes.axhline(edge - 0.5, color="black", linewidth=0.8)
        axes.axvline(edge - 0.5, color="black", linewidth=0.8)
    middles = (edges[:-1] + edges[1:] - 1) / 2
    names = [name for name, _ in matrix.parts]
    axes.set_xticks(middles, names, rotation=90)
    if n <= READABLE:
        axes.set_yticks(range(len(matrix.pieces)), [_shown(piece) for piece in matrix.pieces], fontsize=6)
    else:
        axes.set_yticks(middles, names)
    axes.tick_params(length=0)
    for spine in axes.spines.values():
        spine.set_visible(True)
    axes.set_title(matrix.title)


def _shown(piece: str) -> str:
    """Return a token's text with visible blanks. Matplotlib would read a bare dollar sign as the start of a formula."""
    return repr(piece)[1:-1].replace(" ", "\u00b7").replace("$", r"\$")[:14]
