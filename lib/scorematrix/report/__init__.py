"""Text, tables, figures and files of a comparison. No arithmetic of its own, and no framework."""

from scorematrix.report.export import export_html, write_report
from scorematrix.report.markdown import render_markdown
from scorematrix.report.page import ReportPage, open_report

__all__ = ["ReportPage", "export_html", "open_report", "render_markdown", "write_report"]
