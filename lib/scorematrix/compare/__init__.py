"""Judge recorded rounds: gates, intervals and verdicts. Loads no framework."""

from scorematrix.compare.build import compare_run
from scorematrix.compare.schema import Comparison, Contrast, Gate, Notice, Side

__all__ = ["Comparison", "Contrast", "Gate", "Notice", "Side", "compare_run"]
