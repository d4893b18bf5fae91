"""Write a run's summaries: comparison.json, Markdown, and the executed 03_report.ipynb as one offline HTML file."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Sequence
from pathlib import Path

from bs4 import BeautifulSoup, Tag

from scorematrix.compare import Comparison
from scorematrix.notebooks import execute_notebook
from scorematrix.report.banner import CONTENTS, title
from scorematrix.report.html import svg_frame
from scorematrix.report.markdown import render_markdown
from scorematrix.results import RunStore

NOTEBOOK = "03_report"
TEMPLATES = Path(__file__).parent


def write_report(store: RunStore, comparison: Comparison) -> list[Path]:
    """Write a run's comparison as JSON, Markdown and HTML; return the paths.

    The HTML is exported from the report notebook, which runs in a fresh kernel.

    Raises:
        ValueError: for a damaged run folder.
        NotebookFailed: if the report notebook did not run to its end.
    """
    written = [store.write_document("comparison.json", comparison)]
    written.append(store.write_summary("md", render_markdown(comparison), comparison.partial))
    notebook = store.notebook_path(NOTEBOOK)
    execute_notebook(NOTEBOOK, notebook, {"run_dir": str(store.folder.resolve())}, timeout_seconds=600)
    written.append(store.write_summary("html", export_html(notebook, comparison), comparison.partial))
    return written


def export_html(notebook: Path, comparison: Comparison) -> str:
    """Return an executed notebook as one HTML page that loads nothing from outside.

    It shows the Markdown and outputs, including those of cells that a user added, and lists the headings as contents.
    """
    import nbformat
    from nbconvert import HTMLExporter

    exporter = HTMLExporter(template_name="template", extra_template_basedirs=[str(TEMPLATES)])
    exporter.exclude_input = True
    exporter.exclude_anchor_links = True
    exporter.register_filter("styled_frames", styled_frames)
    exporter.register_filter("svg_frame", lambda svg: svg_frame(svg).html)
    script = (TEMPLATES / "template" / "sort.js").read_text("utf-8").strip()
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    content = nbformat.read(notebook, as_version=4)
    resources = {"report_title": title(comparison), "script": script, "script_sha256": digest}
    body, _ = exporter.from_notebook_node(content, resources=resources)
    return with_contents(body)


def styled_frames(html: str) -> str:
    """Return a displayed data frame in the page's style, and any other markup unchanged.

    Missing numbers become `n/a`, underscores in column names become spaces, and index names share the header's row.
    """
    if 'class="dataframe"' not in html:
        return html
    soup = BeautifulSoup(html, "html.parser")
    framed = ""
    for table in soup.select("table.dataframe"):
        assert table.thead is not None and table.tbody is not None  # pandas writes both
        table.attrs = {"class": "frame"}
        _one_header(table.thead.find_all("tr"))
        for cell in table.thead.find_all("th"):
            label = cell.get_text()
            cell.attrs = {key: value for key, value in cell.attrs.items() if key == "colspan"} | {"scope": "col"}
            if not label:
                cell.name, cell.attrs = "td", {}
            elif " " not in label:
                cell.string = label.replace("_", " ")
        for cell in table.tbody.find_all("th"):
            cell["scope"] = "row"
        for cell in table.tbody.find_all("td"):
            content = cell.get_text()
            if content in ("NaN", "None", "<NA>", "nan"):
                cell.string, cell["class"] = "n/a", "none"
            elif re.fullmatch(r"-?[\d.,]+(e[+-]?\d+)?", content):
                cell["class"] = "figure"
        framed += f'<div class="scroll" tabindex="0" role="region" aria-label="Table">{table}</div>'
    return framed


def _one_header(rows: Sequence[Tag]) -> None:
    """Move index names, for which pandas makes a separate row, into the row of the column names."""
    if len(rows) != 2:
        return
    columns, names = (row.find_all("th") for row in rows)
    named = [(name, column) for name, column in zip(names, columns, strict=True) if name.get_text()]
    if any(column.get_text() for _, column in named):  # the columns have a name too
        return
    for name, column in named:
        column.string = name.get_text()
    rows[1].decompose()


def with_contents(body: str) -> str:
    """Return a page whose headings have ids, with links to them in place of the summary's `CONTENTS` comment."""

    def named(heading: re.Match) -> str:
        label = re.sub("<[^>]+>", "", heading[1])
        return f'<h2 id="{re.sub("[^a-z0-9]+", "-", label.lower()).strip("-")}">{heading[1]}</h2>'

    body = re.sub(r"<h2>(.*?)</h2>", named, body)
    links = "".join(
        f'<li><a href="#{a}">{label}</a></li>' for a, label in re.findall(r'<h2 id="([^"]+)">(.*?)</h2>', body)
    )
    return body.replace(CONTENTS, f'<nav aria-label="Contents"><ul>{links}</ul></nav>', 1)
