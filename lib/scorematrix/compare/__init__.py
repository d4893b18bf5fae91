"""Judge recorded rounds: gates, intervals and verdicts. Loads no framework."""

from scorematrix.compare.build import compare_run
from scorematrix.compare.schema import Comparison

__all__ = ["Comparison", "compare_run"]
