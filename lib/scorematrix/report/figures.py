"""The drawings. Frameworks differ by colour (Okabe and Ito), marker and line, views by fill and width."""

from __future__ import annotations

from collections.abc import Sequence

import matplotlib
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from scorematrix.compare.schema import ChunkResult, Comparison, Side
from scorematrix.report.elements import Fragment, figure, paragraph
from scorematrix.report.ink import significant

COLOURS = {"jax": "#0072B2", "pytorch": "#D55E00", "transformers": "#009E73"}
MARKERS = {"jax": "o", "pytorch": "s", "transformers": "^"}
LINES = {"jax": "-", "pytorch": "--", "transformers": ":"}
PLAIN_VIEW = "portable"
"""Drawn with hollow markers and thin lines, beside the same framework's other views."""
_STYLE = {
    "font.family": "sans-serif",
    "font.size": 10,
    "axes.titlesize": 11,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.alpha": 0.3,
    "figure.facecolor": "white",
}


def chunk_curves(comparison: Comparison) -> Fragment:
    """Items per second against chunk size, with intervals over rounds; the chosen chunk is starred."""
    measured = _measured(comparison)
    if not measured:
        return _nothing("Chunk curves")
    drawing, axes = _canvas()
    for side in measured:
        cells = _sound(side)
        sizes = [c.chunk_size for c in cells]
        rates = [c.items_per_second for c in cells]
        below = [c.items_per_second - (c.items_per_second_low or c.items_per_second) for c in cells]
        above = [(c.items_per_second_high or c.items_per_second) - c.items_per_second for c in cells]
        axes.errorbar(sizes, rates, yerr=[below, above], capsize=4, label=_name(side), **_look(side))
        best = next((c for c in cells if c.chunk_size == side.best_chunk), None)
        if best:
            axes.plot(
                best.chunk_size,
                best.items_per_second,
                marker="*",
                markersize=17,
                linestyle="none",
                markerfacecolor="none",
                color=_look(side)["color"],
                zorder=5,
            )
    ticks = sorted({c.chunk_size for side in measured for c in _sound(side)})
    axes.set_xscale("log", base=2)
    axes.set_xticks(ticks, [str(tick) for tick in ticks])
    axes.minorticks_off()
    axes.set_ylim(bottom=0)
    axes.set_xlabel("chunk size (items a call)")
    axes.set_ylabel("items/s")
    axes.legend()
    spoken = "; ".join(
        f"{_name(s)}: " + ", ".join(f"{significant(c.items_per_second)} at {c.chunk_size}" for c in _sound(s))
        for s in measured
    )
    words = f"Throughput by chunk size, bars are 95 % intervals over rounds, a star marks the chosen chunk. {spoken}."
    return figure(drawing, "chunks", "Throughput by chunk size", words)


def throughput_latency(comparison: Comparison) -> Fragment:
    """Throughput against the latency of one request: up and to the left is better."""
    measured = _measured(comparison)
    percent = _common_percentile(measured)
    if percent is None:
        return _nothing("Throughput against latency")
    drawing, axes = _canvas()
    for side in measured:
        cells = _sound(side)
        latency = [next(p.value_seconds for p in c.latency if p.percent == percent) * 1e3 for c in cells]
        axes.plot(latency, [c.items_per_second for c in cells], label=_name(side), **_look(side))
        for x, cell in zip(latency, cells):
            axes.annotate(str(cell.chunk_size), (x, cell.items_per_second), textcoords="offset points", xytext=(6, 5))
    axes.set_xlabel(f"p{percent} latency of one request (ms)")
    axes.set_ylabel("items/s")
    axes.set_xlim(left=0)
    axes.set_ylim(bottom=0)
    axes.legend()
    words = f"Each point is a chunk size (its number beside it). Latency is the {percent}th percentile of one request."
    return figure(drawing, "pareto", "Throughput against latency", words)


def latency_ecdf(comparison: Comparison, samples: pd.DataFrame) -> Fragment:
    """The share of requests answered within a time, every timed request of the chosen chunk, tails included."""
    best = {(s.backend, s.view, s.target): s.best_chunk for s in comparison.sides}
    samples = samples[samples["role"] == "confirm"]
    drawing, axes = _canvas()
    shown = 0
    for side in _measured(comparison):
        key = (side.backend, side.view, side.target)
        own = samples[
            (samples["backend"] == key[0])
            & (samples["view"] == key[1])
            & (samples["target"] == key[2])
            & (samples["chunk_size"] == best[key])
        ]
        if own.empty:
            continue
        shown += len(own)
        sns.ecdfplot(
            x=own["seconds"] * 1e3,
            ax=axes,
            label=f"{_name(side)}, chunk {best[key]} (n={len(own)})",
            **{name: _look(side)[name] for name in ("color", "linestyle", "linewidth")},
        )
    if not shown:
        return _nothing("Latency distribution")
    axes.set_xlabel("latency of one request (ms)")
    axes.set_ylabel("share of requests")
    axes.set_xlim(left=0)
    axes.legend(loc="lower right")
    words = (
        f"All {shown} timed requests at the chosen chunk sizes; none is dropped. Queries differ in length, hence steps."
    )
    return figure(drawing, "ecdf", "Latency distribution", words)


def run_sequence(comparison: Comparison, samples: pd.DataFrame) -> Fragment:
    """Each round's time in the order of execution: drift would show as a slope, an upset as a jump."""
    drawing, axes = _canvas()
    shown = False
    for side in _measured(comparison):
        own = samples[
            (samples["backend"] == side.backend)
            & (samples["view"] == side.view)
            & (samples["target"] == side.target)
            & (samples["chunk_size"] == side.best_chunk)
        ]
        if own.empty:
            continue
        shown = True
        rounds = own.groupby(["position", "pass"], as_index=False)["seconds"].sum()
        axes.plot(rounds["position"], rounds["seconds"], label=_name(side), **(_look(side) | {"linestyle": "none"}))
    if not shown:
        return _nothing("Run sequence")
    axes.set_xlabel("place in the run's order of execution")
    axes.set_ylabel("seconds a pass")
    axes.set_ylim(bottom=0)
    axes.legend()
    words = "Every timed pass at the chosen chunk size, by the place of its round in the run, tuning rounds included."
    return figure(drawing, "sequence", "Run sequence", words)


def numerics(comparison: Comparison, scores: pd.DataFrame) -> Fragment:
    """Difference from the reference against the reference probability, first label, chosen chunk, last round."""
    reference = scores[scores["role"] == "reference"]
    if reference.empty:
        return _nothing("Numerics")
    keys = ["request", "item", "label"]
    first = scores["label"].iloc[0]
    drawing, axes = _canvas()
    shown = False
    for side in _measured(comparison):
        own = scores[
            (scores["backend"] == side.backend)
            & (scores["view"] == side.view)
            & (scores["target"] == side.target)
            & (scores["chunk_size"] == side.best_chunk)
            & (scores["role"] == "confirm")
        ]
        if own.empty:
            continue
        shown = True
        own = own[own["round"] == own["round"].max()]
        both = own.merge(reference[[*keys, "probability"]], on=keys, suffixes=("", "_reference"))
        both = both[both["label"] == first]
        axes.plot(
            both["probability_reference"],
            both["probability"] - both["probability_reference"],
            label=_name(side),
            **(_look(side) | {"linestyle": "none", "alpha": 0.6}),
        )
    if not shown:
        return _nothing("Numerics")
    axes.axhline(0, color="black", linewidth=0.8)
    axes.set_xlabel(f"reference probability of label {first!r}")
    axes.set_ylabel("difference from the reference")
    axes.ticklabel_format(axis="y", style="sci", scilimits=(0, 0))
    axes.legend()
    words = "Each point is an item as the last confirmation round's timed call scored it; the line is exact agreement."
    return figure(drawing, "numerics", "Difference from the float32 reference", words)


def _canvas() -> tuple[Figure, Axes]:
    # Figure without pyplot: nothing to close, and a notebook shows it once, as the fragment.
    with matplotlib.rc_context(_STYLE):
        drawing = Figure(figsize=(7.2, 3.9))
        axes = drawing.subplots()
        axes.margins(x=0.08, y=0.12)
        return drawing, axes


def _measured(comparison: Comparison) -> list[Side]:
    return [side for side in comparison.sides if _sound(side)]


def _sound(side: Side) -> list[ChunkResult]:
    return [cell for cell in side.chunks if cell.status == "ok" and cell.items_per_second is not None]


def _common_percentile(sides: Sequence[Side]) -> int | None:
    """The highest of p95 and p50 that every point has samples enough for."""
    for percent in (95, 50):
        found = [p for s in sides for c in _sound(s) for p in c.latency if p.percent == percent]
        if found and all(p.value_seconds is not None for p in found):
            return percent
    return None


def _name(side: Side) -> str:
    return f"{side.backend} {side.view} on {side.target}"


def _look(side: Side) -> dict:
    framework = side.backend if side.backend in COLOURS else side.framework
    colour, plain = COLOURS.get(framework, "#555555"), side.view == PLAIN_VIEW
    return {
        "color": colour,
        "marker": MARKERS.get(framework, "D"),
        "linestyle": LINES.get(framework, "-."),
        "linewidth": 1.2 if plain else 2.2,
        "markerfacecolor": "white" if plain else colour,
    }


def _nothing(title: str) -> Fragment:
    return paragraph(f"{title}: NOT AVAILABLE, no measured side has the samples for it.", "note")
