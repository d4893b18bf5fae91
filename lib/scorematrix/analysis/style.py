"""How plots look: a colour per framework (Okabe and Ito), markers and lines per side; figures as SVG in notebooks."""

from __future__ import annotations

import html
import io
import re
import zlib
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

import matplotlib
import pandas as pd
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from scorematrix.results import SIDES
from scorematrix.wings import wing

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
if (_servers := wing("servers")) is not None:
    MARKERS |= _servers.MARKERS
OTHERS = (("#E69F00", "X"), ("#882255", "h"), ("#117733", "p"), ("#332288", "*"), ("#AA4499", "<"))
"""Colours and markers of other backends, chosen by a hash of their name."""
LINES: dict[str, Any] = {"jax": "-", "pytorch": "--", "transformers": ":", "llama-cpp": "-.", "vllm-cpu": (0, (1, 1))}
PLAIN_VIEWS = ("portable", "expanded_cache", "server")
"""Drawn with hollow markers and thin lines, unlike the same backend's other views."""
QUESTIONS = (("#332288", "o", "-"), ("#117733", "s", "--"), ("#882255", "^", "-."), ("#AA4499", "D", ":"))
"""Colour, marker and line of comparisons."""
STYLE: dict[RcKeyType, Any] = {
    "font.family": "sans-serif",
    "font.size": 10,
    "axes.titlesize": 11,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.alpha": 0.3,
    "figure.facecolor": "white",
    "axes.formatter.min_exponent": 5,
    "svg.fonttype": "none",
}
WIDTH = 10.2
"""Inches; the width that the exported page has for a figure."""
TOOLTIP = "tip:"
"""Prefix of the gid of an artist with a tooltip; the rest of the gid is the tooltip's text."""


def side_style(backend: str, view: str = "") -> dict[str, Any]:
    """Return colour, marker and line of a side, as matplotlib's `plot` takes them. No two sides share all of them."""
    framework = backend if backend in COLOURS else SIDES.get(backend, backend)
    colour, marker = OTHERS[zlib.crc32(backend.encode()) % len(OTHERS)]
    colour, plain = COLOURS.get(framework, colour), view in PLAIN_VIEWS
    return {
        "color": colour,
        "marker": MARKERS.get(backend) or MARKERS.get(framework, marker),
        "linestyle": LINES.get(framework, "-."),
        "linewidth": 1.2 if plain else 2.2,
        "markerfacecolor": "white" if plain else colour,
    }


def by_side(frame: pd.DataFrame) -> Iterator[tuple[str, dict[str, Any], pd.DataFrame]]:
    """Yield each side's short name, style and rows, in the frame's order."""
    for key, rows in frame.groupby(["side", "backend", "view"], sort=False):
        side, backend, view = map(str, key)
        yield side, side_style(backend, view), rows


def palette(sides: Iterable[str]) -> dict[str, str]:
    """Return a colour per side or backend, for seaborn's `palette`."""
    return {side: side_style(side.split(" ")[0])["color"] for side in dict.fromkeys(sides)}


def tooltip(artist: Artist, message: str) -> None:
    """Set an artist's tooltip, which notebooks and the exported page show."""
    artist.set_gid(TOOLTIP + message)


def tooltip_at(axes: Axes, x: float, y: float, message: str) -> None:
    """Set the tooltip of a point, on an invisible marker that the pointer easily meets."""
    (dot,) = axes.plot(x, y, marker="o", markersize=14, alpha=0, linestyle="none")
    tooltip(dot, message)


def describe(figure: Figure, title: str, description: str = "") -> Figure:
    """Set a figure's title and description, which screen readers read; return the figure."""
    figure.set_label(f"{title}\n{description}")
    return figure


def canvas(height: float, columns: int = 1) -> tuple[Any, ...]:
    """Return a figure and its axes, made without pyplot so that a notebook shows the figure only once."""
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, height), layout="constrained")
        axes = figure.subplots(1, columns, squeeze=False)[0]
    for one in axes:
        one.margins(x=0.08, y=0.12)
    return figure, *axes


def empty(title: str, why: str) -> Figure:
    """Return a figure that says what is missing, in place of an empty plot."""
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, 0.5))
        figure.text(0.0, 0.5, f"{title}: not available, {why}.", va="center", color="#57606A")
    return describe(figure, title, f"Not available: {why}.")


def legend(axes: Axes) -> None:
    """Put the legend to the right of the plot, where it covers no data."""
    axes.legend(loc="upper left", bbox_to_anchor=(1.01, 1.0), borderaxespad=0.0, frameon=False, fontsize=9)


def chunk_ticks(axes: Axes, sizes: pd.Series) -> None:
    """Set a base-2 log axis with a tick at each chunk size."""
    ticks = sorted(sizes.unique())
    axes.set_xscale("log", base=2)
    axes.set_xticks(ticks, [str(tick) for tick in ticks])
    axes.minorticks_off()
    axes.set_xlabel("chunk size (items per call)")


def use_style() -> None:
    """Draw all plots of this process in the report's style, and show figures in notebooks as SVG.

    SVG is sharp at any size, has hover values, and screen readers read its title and description.
    """
    matplotlib.rcParams.update(STYLE)
    pd.set_option("display.float_format", _number, "display.max_colwidth", 160)
    try:
        from IPython import get_ipython
    except ImportError:
        return
    if (shell := get_ipython()) is None:
        return
    shell.run_line_magic("matplotlib", "inline")
    formatters = shell.display_formatter.formatters
    for kind in ("image/png", "image/jpeg", "application/pdf"):
        formatters[kind].pop(Figure, None)
    formatters["image/svg+xml"].for_type(Figure, figure_svg)


def _number(value: float) -> str:
    return f"{value:,.0f}" if 1e4 <= abs(value) < 1e12 else f"{value:.4g}"


def figure_svg(figure: Figure) -> str:
    """Return a figure as SVG with a title, a description and unique ids, so that a page can have several."""
    title, _, description = _label(figure).partition("\n")
    buffer = io.StringIO()
    with matplotlib.rc_context({"svg.hashsalt": "scorematrix", "svg.fonttype": "none"}):
        figure.savefig(buffer, format="svg", metadata={"Date": None}, bbox_inches="tight")
    svg = buffer.getvalue()
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg[svg.index("<svg") :], flags=re.DOTALL)
    svg = re.sub(rf'<g id="{TOOLTIP}([^"]*)">', r"<g><title>\1</title>", svg)
    # Ids must differ between the figures of one page, and nothing may look like an external link.
    name = f"figure-{zlib.crc32(svg.encode()):08x}"
    svg = re.sub(r'\bid="([^"]+)"', rf'id="{name}-\1"', svg)
    svg = re.sub(r"url\(#([^)]+)\)", rf"url(#{name}-\1)", svg)
    svg = re.sub(r'xlink:href="#([^"]+)"', rf'href="#{name}-\1"', svg)
    svg = svg.replace(' xmlns:xlink="http://www.w3.org/1999/xlink"', "")
    labels = (
        f'<title id="{name}-title">{html.escape(title)}</title><desc id="{name}-desc">{html.escape(description)}</desc>'
    )
    start, rest = svg.split(">", 1)
    return f'{start} role="img" aria-labelledby="{name}-title {name}-desc">{labels}{rest}'


def _label(figure: Figure) -> str:
    """Return a figure's label as set by `describe`, else its first title, else its first axis labels."""
    if label := str(figure.get_label()):
        return label
    titles = [figure.get_suptitle(), *(axes.get_title() for axes in figure.axes)]
    shown = [f"{axes.get_ylabel()} by {axes.get_xlabel()}" for axes in figure.axes if axes.get_ylabel()]
    return next((name for name in [*titles, *shown] if name), "A plot")
