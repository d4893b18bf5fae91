"""A recorded run as pandas frames, and its plots as matplotlib figures.

from scorematrix import open_run, plots

run = open_run()                      # the newest run; or an id, a folder, the name of a recorded run
run.verdicts()                        # who is faster, by how much, how sure
plots.throughput(run.rates())         # a matplotlib Figure
"""

from scorematrix.analysis.opened import Run, open_run

__all__ = ["Run", "open_run"]
