"""The few HTML forms that the report is made of. Everything that comes from data is escaped here."""

from __future__ import annotations

import html
import io
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
    """A part that opens on a click, or by itself when a link leads to it."""
    return Fragment(
        f'<details id="{text(anchor)}"><summary>{text(summary)}</summary><div>{content.html}</div></details>'
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


def figure(drawing: Figure, name: str, title: str, description: str, spoken: str = "") -> Fragment:
    """A drawing as inline SVG, with a title and a description for those who do not see it.

    Args:
        spoken: the drawing's figures in words, told to screen readers only: those who see read them off it.
    """
    import matplotlib

    buffer = io.StringIO()
    with matplotlib.rc_context({"svg.hashsalt": name, "svg.fonttype": "none"}):
        drawing.savefig(buffer, format="svg", metadata={"Date": None}, bbox_inches="tight")
    svg = buffer.getvalue()
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    # Ids must differ between the figures of one page, and nothing may look like a link to elsewhere.
    svg = re.sub(r'\bid="([^"]+)"', rf'id="{name}-\1"', svg)
    svg = re.sub(r"url\(#([^)]+)\)", rf"url(#{name}-\1)", svg)
    svg = re.sub(r'xlink:href="#([^"]+)"', rf'href="#{name}-\1"', svg).replace(
        ' xmlns:xlink="http://www.w3.org/1999/xlink"', ""
    )
    told = text(f"{description} {spoken}".strip())
    labels = f'<title id="{name}-title">{text(title)}</title><desc id="{name}-desc">{told}</desc>'
    start, rest = svg.split(">", 1)
    start += f' role="img" aria-labelledby="{name}-title {name}-desc"'
    # On a small screen a drawing scrolls in its frame, at a size that can be read, and keys reach the frame.
    return Fragment(
        f'<figure class="drawing"><div class="scroll" tabindex="0" role="region" aria-label="{text(title)}">'
        f"{start}>{labels}{rest}</div><figcaption><b>{text(title)}.</b> {text(description)}</figcaption></figure>"
    )


_MARKS = ("PASSED", "FAILED", "NOT RUN", "DEFERRED", "INVALID", "SKIPPED", "NOT AVAILABLE", "UNDECIDED")


def marked(value: str) -> str:
    """Escaped text; a word of state at its start stands out by weight and frame, never by colour alone."""
    for mark in _MARKS:
        if value.startswith(mark):
            kind = mark.lower().replace(" ", "-")
            return f'<span class="mark {kind}">{mark}</span> {text(value[len(mark) :].lstrip(": "))}'
    return text(value)
