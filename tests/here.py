"""Notebooks executed in this process instead of a fresh kernel: for tests of what surrounds them."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import Any

import nbformat
from matplotlib.figure import Figure

from scorematrix.analysis.style import figure_svg
from scorematrix.notebooks import NotebookFailed, check_parameters, find_notebook


def execute_here(name: str, output: Path, parameters: dict[str, Any], timeout_seconds: float | None = None) -> None:
    """Stand for `scorematrix.notebooks.execute_notebook`, without a kernel and without a limit of time.

    What a cell displays is kept as HTML or SVG. Variables that a round sets stay: see `rounds_here`.
    """
    source = find_notebook(name)
    check_parameters(source, parameters)
    content = nbformat.read(source, as_version=4)
    names: dict[str, Any] = {}
    try:
        for cell in content.cells:
            if cell.cell_type == "code":
                shown: list[Any] = []
                names["display"] = shown.append
                shown.append(_run(cell.source, names))
                if "parameters" in cell.metadata.get("tags", []):
                    names |= parameters
                cell.outputs = [
                    nbformat.v4.new_output("display_data", data) for one in shown if (data := _displayed(one))
                ]
    except Exception as error:
        raised = (type(error).__name__, str(error))
        raise NotebookFailed(f"{name}: {': '.join(raised)}", raised) from error
    output.parent.mkdir(parents=True, exist_ok=True)
    nbformat.write(content, output)


def _displayed(shown: Any) -> dict[str, str]:
    if isinstance(shown, Figure):
        return {"image/svg+xml": figure_svg(shown), "text/plain": ""}
    return {"text/html": shown._repr_html_(), "text/plain": ""} if hasattr(shown, "_repr_html_") else {}


def _run(source: str, names: dict[str, Any]) -> Any:
    """The value of a cell's last line where that is an expression."""
    tree = ast.parse(source)
    last = tree.body.pop() if tree.body and isinstance(tree.body[-1], ast.Expr) else None
    exec(compile(tree, "<cell>", "exec"), names)
    return eval(compile(ast.Expression(last.value), "<cell>", "eval"), names) if last else None
