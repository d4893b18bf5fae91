"""Speed as drawings: by chunk size, against latency, request by request, round by round."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd
import seaborn as sns

from scorematrix.compare.schema import ChunkResult, Comparison, Side
from scorematrix.report.drawing import (
    NO_LINE,
    canvas,
    chunk_ticks,
    legend,
    look,
    measured,
    name,
    nothing,
    rate,
    rows_of,
    side_labels,
    sound,
)
from scorematrix.report.elements import Fragment, figure
from scorematrix.report.ink import significant

FEW_CHUNKS = 3
"""So many chunk sizes a side are all numbered; of more only the ends and the chosen one."""
TAIL_SAMPLES = 20
"""From so many requests on, the tail is drawn on a scale of its own."""


def chunk_curves(comparison: Comparison) -> Fragment:
    """Items per second against chunk size, with intervals over rounds; the chosen chunk is starred."""
    sides = measured(comparison)
    if not sides:
        return nothing("Chunk curves")
    drawing, (axes,) = canvas()
    for side in sides:
        cells, own = sound(side), look(side)
        sizes = [c.chunk_size for c in cells]
        rates = [rate(c) for c in cells]
        low = [c.items_per_second_low or rate(c) for c in cells]
        high = [c.items_per_second_high or rate(c) for c in cells]
        axes.plot(sizes, rates, label=name(side), **own)
        axes.fill_between(sizes, low, high, color=own["color"], alpha=0.15, linewidth=0)
        axes.vlines(sizes, low, high, color=own["color"], linewidth=own["linewidth"] / 2)
        best = next((c for c in cells if c.chunk_size == side.best_chunk), None)
        if best:
            axes.plot(best.chunk_size, rate(best), marker="*", markersize=17, linestyle="none",
                      markerfacecolor="none", color=own["color"], zorder=5)  # fmt: skip
    chunk_ticks(axes, sides)
    axes.set_ylim(bottom=0)
    axes.set_ylabel("items/s")
    legend(axes)
    spoken = "; ".join(
        f"{name(s)}: " + ", ".join(f"{significant(c.items_per_second)} at {c.chunk_size}" for c in sound(s))
        for s in sides
    )
    words = "Bands and bars are 95 % intervals over rounds. A star marks the chosen chunk size."
    return figure(drawing, "chunks", "Throughput by chunk size", words, f"Items/s: {spoken}.")


def paired_curves(comparison: Comparison) -> Fragment:
    """One side's speed over the other's at the same chunk size, by paired rounds, beside the margin."""
    title = "Speed at the same chunk size"
    asked = [c for c in comparison.contrasts if c.verdict != "deferred" and any(m.effect for m in c.matched)]
    if not asked:
        return nothing(title, "no chunk size has two paired rounds of both sides")
    drawing, (axes,) = canvas(3.1)
    spoken = []
    for contrast, (colour, marker, line) in zip(asked, _CONTRASTS * len(asked), strict=False):
        speeds = [m.effect.inverse for m in contrast.matched if m.effect]
        sizes = [m.chunk_size for m in contrast.matched if m.effect]
        label = f"{contrast.name}, {contrast.view}"
        axes.plot(sizes, [s.ratio for s in speeds], color=colour, marker=marker, linestyle=line, label=label)
        axes.fill_between(sizes, [s.low for s in speeds], [s.high for s in speeds], color=colour, alpha=0.2)
        figures = ", ".join(
            f"{s.ratio:.2f} ({s.low:.2f} to {s.high:.2f}) at {size}" for size, s in zip(sizes, speeds, strict=True)
        )
        spoken.append(f"{label}: {figures}")
    margin = comparison.params["margin"]
    axes.axhspan(1 / (1 + margin), 1 + margin, color="#DDDDDD", zorder=0)
    axes.axhline(1.0, color="black", linewidth=0.8)
    chunk_ticks(axes, measured(comparison))
    first, second = side_labels(asked)
    axes.set_ylabel(f"speed of {first} / speed of {second}")
    legend(axes)
    words = (
        f"Above 1, {first} is faster. Bands are 95 % intervals over paired rounds; grey is the {margin:.0%} margin. "
        "Descriptive only: the verdict compares each side's best chunk size."
    )
    return figure(drawing, "paired", title, words, f"{'; '.join(spoken)}.")


_CONTRASTS = (("#332288", "o", "-"), ("#117733", "s", "--"), ("#882255", "^", "-."), ("#AA4499", "D", ":"))


def throughput_latency(comparison: Comparison) -> Fragment:
    """Throughput against the latency of one request: up and to the left is better."""
    sides = measured(comparison)
    percent = _common_percentile(sides)
    if percent is None:
        why = "percentiles need at least 5 rounds, p50 6 requests and p95 72"
        return nothing("Throughput against latency", why)
    drawing, (axes,) = canvas()
    for side in sides:
        cells = sound(side)
        latency = [_latency_ms(c, percent) for c in cells]
        axes.plot(latency, [rate(c) for c in cells], label=name(side), **look(side))
        told = {cells[0].chunk_size, cells[-1].chunk_size, side.best_chunk}
        for x, cell in zip(latency, cells, strict=True):
            if len(cells) <= FEW_CHUNKS or cell.chunk_size in told:
                at = (x, rate(cell))
                axes.annotate(str(cell.chunk_size), at, textcoords="offset points", xytext=(6, 5))
    axes.set_xlabel(f"p{percent} latency of one request (ms)")
    axes.set_ylabel("items/s")
    axes.set_xlim(left=0)
    axes.set_ylim(bottom=0)
    legend(axes)
    words = (
        f"Each point is a chunk size; the ends and the chosen one are numbered. Latency is the {percent}th percentile "
        "of one request. Up and to the left is better."
    )
    return figure(drawing, "pareto", "Throughput against latency", words)


def latency_ecdf(comparison: Comparison, samples: pd.DataFrame) -> Fragment:
    """The share of requests answered within a time, every timed request of the chosen chunk, tails on their own."""
    samples = samples.loc[samples["role"] == "confirm"]
    drawing, (body, tail) = canvas(3.6, columns=2)
    shown = []
    for side in measured(comparison):
        seconds = rows_of(samples, side)["seconds"]
        if seconds.empty:
            continue
        shown.append(len(seconds))
        label = f"{name(side)}, chunk {side.best_chunk} (n={len(seconds)})"
        style = {key: look(side)[key] for key in ("color", "linestyle", "linewidth")}
        sns.ecdfplot(x=seconds * 1e3, ax=body, label=label, **style)
        sns.ecdfplot(x=seconds * 1e3, ax=tail, complementary=True, **style)
    if not shown:
        return nothing("Latency distribution")
    body.set_ylabel("share of requests answered")
    body.set_xlim(left=0)
    tail.set_ylabel("share of requests still open")
    if max(shown) >= TAIL_SAMPLES:
        tail.set_yscale("log")
    for axes in (body, tail):
        axes.set_xlabel("latency of one request (ms)")
    drawing.legend(*body.get_legend_handles_labels(), loc="outside lower center", ncols=2, frameon=False, fontsize=9)
    words = (
        f"All {sum(shown)} timed requests at the chosen chunk sizes; none dropped. The right plot shows the tail. "
        "Steps mean few samples, or queries of equal length."
    )
    return figure(drawing, "ecdf", "Latency distribution", words)


def run_sequence(comparison: Comparison, samples: pd.DataFrame) -> Fragment:
    """Each round's time in the order of execution: drift would show as a slope, an upset as a jump."""
    drawing, (axes,) = canvas()
    shown = False
    for side in measured(comparison):
        own = rows_of(samples, side)
        if own.empty:
            continue
        shown = True
        rounds = own.groupby(["position", "pass"]).agg({"seconds": "sum"}).reset_index()
        axes.plot(rounds["position"], rounds["seconds"], label=name(side), **look(side) | NO_LINE)
    if not shown:
        return nothing("Run sequence")
    axes.set_xlabel("position of the round in the run")
    axes.set_ylabel("seconds per pass")
    axes.set_ylim(bottom=0)
    legend(axes)
    words = (
        "Every timed pass at the chosen chunk size, in execution order, tuning rounds included. Drift shows as a slope."
    )
    return figure(drawing, "sequence", "Run sequence", words)


def _latency_ms(cell: ChunkResult, percent: int) -> float:
    value = next(p.value_seconds for p in cell.latency if p.percent == percent)
    assert value is not None  # `_common_percentile` has seen to it
    return value * 1e3


def _common_percentile(sides: Sequence[Side]) -> int | None:
    """The highest of p95 and p50 that every point has samples enough for."""
    for percent in (95, 50):
        found = [p for s in sides for c in sound(s) for p in c.latency if p.percent == percent]
        if found and all(p.value_seconds is not None for p in found):
            return percent
    return None
