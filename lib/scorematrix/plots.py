"""The report's plots: each takes a frame of a run and returns a matplotlib `Figure`.

    from scorematrix import open_run, plots

    run = open_run()
    plots.use_style()
    plots.throughput(run.rates())

A plot without data says what is missing. For your seaborn plots there are `use_style`, `palette` (a colour per side)
and `t_interval` (an error bar).
"""

from scorematrix.analysis.evidence_plots import accuracy, roofline, samples, sequence, startup
from scorematrix.analysis.speed_plots import (
    geometric_mean,
    heatmap,
    latency,
    latency_throughput,
    matched,
    speed_ratios,
    t_interval,
    throughput,
)
from scorematrix.analysis.style import palette, use_style

__all__ = [
    "accuracy",
    "geometric_mean",
    "heatmap",
    "latency",
    "latency_throughput",
    "matched",
    "palette",
    "roofline",
    "samples",
    "sequence",
    "speed_ratios",
    "startup",
    "t_interval",
    "throughput",
    "use_style",
]
