"""The few HTML forms that the report is made of. Everything that comes from data is escaped here."""

from __future__ import annotations

import html
import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING

from scorematrix.report.ink import NONE

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class Fragment:
    """A piece of HTML that Jupyter displays and that pieces are joined from."""

    html: str

    def _repr_html_(self) -> str:
        return self.html

    def __add__(self, other: Fragment) -> Fragment:
        return Fragment(self.html + other.html)


def text(value: object) -> str:
    """Escaped text."""
    return html.escape(str(value), quote=True)


def heading(title: str, anchor: str, level: int = 2) -> Fragment:
    """A heading that the contents list links to."""
    return Fragment(f'<h{level} id="{text(anchor)}">{text(title)}</h{level}>')


def paragraph(words: str, kind: str = "") -> Fragment:
    """A paragraph of plain words."""
    return Fragment(f'<p class="{text(kind)}">{text(words)}</p>' if kind else f"<p>{text(words)}</p>")


def details(summary: str, anchor: str, content: Fragment) -> Fragment:
    """Return a part that opens on a click. The anchor is inside it, so that a link to it opens it."""
    return Fragment(
        f'<details><summary>{text(summary)}</summary><div id="{text(anchor)}">{content.html}</div></details>'
    )


def link(words: str, anchor: str, of: str) -> str:
    """A way to another place on the page; read aloud it says of what, where several have the same words."""
    return f'<a href="#{text(anchor)}" aria-label="{text(words)} for {text(of)}">{text(words)}</a>'


def links(ways: Sequence[tuple[str, str]]) -> Fragment:
    """Ways to other places on the page: (words, anchor)."""
    found = "; ".join(f'<a href="#{text(anchor)}">{text(words)}</a>' for words, anchor in ways)
    return Fragment(f"<p>{found}</p>" if ways else "")


def commands(words: str) -> str:
    """Escaped text; what stands between backticks is set as code."""
    return re.sub(r"`([^`]+)`", r"<code>\1</code>", text(words))


def bullets(lines: Sequence[str]) -> Fragment:
    """A list of plain words."""
    return Fragment("<ul>" + "".join(f"<li>{text(line)}</li>" for line in lines) + "</ul>")


def table(caption: str, columns: Sequence[str], rows: Sequence[Sequence[str]], words: Sequence[int] = (0,)) -> Fragment:
    """A table whose first column names the row.

    Args:
        words: indices of columns that hold words; the others hold figures and are set right.
    """
    kind = ["" if i in words else ' class="figure"' for i in range(len(columns))]
    head = "".join(f'<th scope="col"{kind[i]}>{text(name)}</th>' for i, name in enumerate(columns))
    body = ""
    for row in rows:
        cells = [f'<th scope="row">{text(row[0])}</th>']
        place = 1
        for _, run in groupby(row[1:], key=lambda value: value if value == NONE else object()):
            value, *same = run  # what is not available stands once, not once a column
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
    """Return a figure as inline SVG in a frame that scrolls on a small screen, and that keys can reach."""
    from scorematrix.analysis.style import figure_svg  # pandas and matplotlib: not for a round's process

    return svg_frame(figure_svg(drawing))


def svg_frame(svg: str) -> Fragment:
    """Return a frame around a figure's SVG."""
    title = re.search(r"<title[^>]*>([^<]*)</title>", svg)
    name = title[1] if title else "A plot"
    frame = f'<div class="scroll" tabindex="0" role="region" aria-label="{name}">{svg}</div>'
    return Fragment(f'<figure class="drawing">{frame}</figure>')


_MARKS = ("PASSED", "FAILED", "NOT RUN", "DEFERRED", "INVALID", "SKIPPED", "NOT AVAILABLE", "UNDECIDED")


def marked(value: str) -> str:
    """Escaped text; a word of state at its start stands out by weight and frame, never by colour alone."""
    for mark in _MARKS:
        if value.startswith(mark):
            kind = mark.lower().replace(" ", "-")
            return f'<span class="mark {kind}">{mark}</span> {text(value[len(mark) :].lstrip(": "))}'
    return text(value)
