"""Writing a run's summaries: comparison.json, Markdown, and the executed 03_report.ipynb as one offline HTML file."""

from __future__ import annotations

from pathlib import Path

from scorematrix.compare import Comparison
from scorematrix.notebooks import execute_notebook
from scorematrix.report.banner import title
from scorematrix.report.markdown import render_markdown
from scorematrix.results import RunStore

NOTEBOOK = "03_report"
TEMPLATES = Path(__file__).parent


def write_report(store: RunStore, comparison: Comparison) -> list[Path]:
    """Write what a run's comparison says: execute the report notebook in a fresh kernel, and export it.

    Raises:
        ValueError: for a run folder that is damaged.
        NotebookFailed: where the report notebook did not run to its end.
    """
    written = [store.write_document("comparison.json", comparison)]
    written.append(store.write_summary("md", render_markdown(comparison), comparison.partial))
    notebook = store.notebook_path(NOTEBOOK)
    execute_notebook(NOTEBOOK, notebook, {"run_dir": str(store.folder.resolve())}, timeout_seconds=600)
    written.append(store.write_summary("html", export_html(notebook, comparison), comparison.partial))
    return written


def export_html(notebook: Path, comparison: Comparison) -> str:
    """The outputs of an executed notebook as one HTML page that refers to nothing outside itself."""
    import nbformat
    from nbconvert import HTMLExporter

    exporter = HTMLExporter(template_name="template", extra_template_basedirs=[str(TEMPLATES)])
    exporter.exclude_input = True
    content = nbformat.read(notebook, as_version=4)
    body, _ = exporter.from_notebook_node(content, resources={"report_title": title(comparison)})
    return body
