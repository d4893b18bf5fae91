"""Summary, evidence, methods and files of a comparison; `analysis` has its frames and plots. Imports no framework.

Names are loaded on first use, so that a round shows its page without importing seaborn.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from scorematrix.report.export import export_html, write_report
    from scorematrix.report.markdown import render_markdown
    from scorematrix.report.page import ReportPage

_HOMES = {
    "ReportPage": "page",
    "export_html": "export",
    "render_markdown": "markdown",
    "write_report": "export",
}

__all__ = ["ReportPage", "export_html", "render_markdown", "write_report"]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"scorematrix.report.{_HOMES[name]}"), name)
