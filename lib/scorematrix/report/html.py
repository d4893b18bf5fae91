"""HTML elements of the report. Everything that comes from data is escaped here."""

from __future__ import annotations

import html
import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING

from scorematrix.report.formatting import MARKS, NONE

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class Fragment:
    """A piece of HTML that Jupyter displays. `+` joins pieces."""

    html: str

    def _repr_html_(self) -> str:
        return self.html

    def __add__(self, other: Fragment) -> Fragment:
        return Fragment(self.html + other.html)


def text(value: object) -> str:
    """Return a value as escaped text."""
    return html.escape(str(value), quote=True)


def heading(title: str, anchor: str, level: int = 2) -> Fragment:
    """Return a heading that the list of contents links to."""
    return Fragment(f'<h{level} id="{text(anchor)}">{text(title)}</h{level}>')


def paragraph(message: str, kind: str = "") -> Fragment:
    """Return a paragraph of plain text; `kind` is its CSS class."""
    return Fragment(f'<p class="{text(kind)}">{text(message)}</p>' if kind else f"<p>{text(message)}</p>")


def details(summary: str, anchor: str, content: Fragment) -> Fragment:
    """Return a part that opens on a click. Its anchor is inside, so that a link to it opens the part."""
    return Fragment(
        f'<details><summary>{text(summary)}</summary><div id="{text(anchor)}">{content.html}</div></details>'
    )


def link(label: str, anchor: str, of: str) -> str:
    """Return a link to an anchor on the page. Screen readers read `of` too, which tells equal labels apart."""
    return f'<a href="#{text(anchor)}" aria-label="{text(label)} for {text(of)}">{text(label)}</a>'


def links(ways: Sequence[tuple[str, str]]) -> Fragment:
    """Return a paragraph of links to anchors on the page, each given as (label, anchor)."""
    joined = "; ".join(f'<a href="#{text(anchor)}">{text(label)}</a>' for label, anchor in ways)
    return Fragment(f"<p>{joined}</p>" if ways else "")


def commands(message: str) -> str:
    """Return escaped text, with code markup for what is between backticks."""
    return re.sub(r"`([^`]+)`", r"<code>\1</code>", text(message))


def bullets(lines: Sequence[str]) -> Fragment:
    """Return a bullet list of plain text."""
    return Fragment("<ul>" + "".join(f"<li>{text(line)}</li>" for line in lines) + "</ul>")


def table(
    caption: str, columns: Sequence[str], rows: Sequence[Sequence[str]], text_columns: Sequence[int] = (0,)
) -> Fragment:
    """Return a table whose first column names the row.

    Args:
        text_columns: indices of the text columns; the others are numeric and right-aligned.
    """
    kind = ["" if i in text_columns else ' class="figure"' for i in range(len(columns))]
    head = "".join(f'<th scope="col"{kind[i]}>{text(name)}</th>' for i, name in enumerate(columns))
    body = ""
    for row in rows:
        cells = [f'<th scope="row">{text(row[0])}</th>']
        place = 1
        for _, run in groupby(row[1:], key=lambda value: value if value == NONE else object()):
            value, *same = run  # adjacent n/a values share one cell
            span = 1 + len(same)
            across = f' colspan="{span}"' if span > 1 else ""
            cells.append(f"<td{kind[place]}{across}>{marked(value)}</td>")
            place += span
        body += f"<tr>{''.join(cells)}</tr>"
    return Fragment(
        f'<div class="scroll" tabindex="0" role="region" aria-label="{text(caption)}"><table><caption>{text(caption)}'
        f"</caption><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"
    )


def figure(drawing: Figure) -> Fragment:
    """Return a figure as inline SVG, in a frame that scrolls on a small screen and takes the keyboard focus."""
    from scorematrix.analysis.style import figure_svg  # imports pandas and matplotlib: too slow for a round's process

    return svg_frame(figure_svg(drawing))


def svg_frame(svg: str) -> Fragment:
    """Return a frame around a figure's SVG."""
    title = re.search(r"<title[^>]*>([^<]*)</title>", svg)
    name = title[1] if title else "A plot"
    frame = f'<div class="scroll" tabindex="0" role="region" aria-label="{name}">{svg}</div>'
    return Fragment(f'<figure class="drawing">{frame}</figure>')


def marked(value: str) -> str:
    """Return escaped text. A state at its start is marked by weight and frame, not by colour alone."""
    for mark in MARKS:
        if value.startswith(mark):
            kind = mark.lower().replace(" ", "-")
            return f'<span class="mark {kind}">{mark}</span> {text(value[len(mark) :].lstrip(": "))}'
    return text(value)
