"""Plots of the evidence: roofline, start-up, accuracy, order. Each takes a frame of a run and returns a `Figure`."""

from __future__ import annotations

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure

from scorematrix.analysis.style import by_side, canvas, describe, empty, legend, side_style, tooltip_at

PARTS = (
    ("load_seconds", "load model and backend", "#BBBBBB", ""),
    ("trace_seconds", "trace", "#88CCEE", "//"),
    ("compile_seconds", "compile", "#CC6677", ""),
    ("other_seconds", "first runs and the rest", "#DDCC77", ".."),
)


def roofline(cells: pd.DataFrame, sides: pd.DataFrame) -> Figure:
    """Draw operations per second against operations per byte of weights, under the ceilings measured in this run.

    Args:
        cells: `Run.cells()`.
        sides: `Run.sides()`, for the ceilings.
    """
    title = "Roofline"
    ceilings = sides.set_index("side")[["matmul_gflop_per_second", "copy_gb_per_second"]].dropna()
    known = cells[cells["gflop_per_second"].notna() & cells["flop_per_weight_byte"].notna()]
    known = known[known["side"].isin(ceilings.index)]
    if known.empty:
        return empty(title, "it needs operation counts and ceilings, which tuning rounds measure")
    figure, axes = canvas(4.4)
    reach, values = known["flop_per_weight_byte"], []
    ridges = ceilings["matmul_gflop_per_second"] / ceilings["copy_gb_per_second"]
    left, right = min(reach.min(), ridges.min()) / 2, max(reach.max(), ridges.max()) * 2
    for side, style, side_cells in by_side(known):
        (peak, copy), ridge = ceilings.loc[side], ridges[side]
        axes.plot([left, ridge, right], [left * copy, peak, peak], color=style["color"], linestyle=style["linestyle"],
                  linewidth=0.9, alpha=0.8)  # fmt: skip
        axes.plot(side_cells["flop_per_weight_byte"], side_cells["gflop_per_second"], label=side,
                  **style | {"linestyle": "none"})  # fmt: skip
        for size, x, y in side_cells[["chunk_size", "flop_per_weight_byte", "gflop_per_second"]].to_numpy():
            tooltip_at(axes, x, y, f"{side}, chunk size {size}: {y:.4g} GFLOP/s")
        chosen = side_cells[side_cells["chosen"]]
        values += [f"{side}: {c.gflop_per_second:.3g} of {peak:.3g} GFLOP/s" for c in chosen.itertuples()]
    # Views of a backend have nearly the same ceilings, so only the highest is labelled.
    best = ceilings.groupby(known.drop_duplicates("side").set_index("side")["backend"]).max()
    for number, (backend, (peak, copy)) in enumerate(best.sort_values("matmul_gflop_per_second").iterrows()):
        is_below = number < len(best) - 1
        place = {"color": side_style(str(backend))["color"], "fontsize": 8, "va": "top" if is_below else "bottom"}
        for caption, at, side, shift in (
            (f"{backend}: fastest matmul {peak:.3g} GFLOP/s", (right, peak), "right", 0),
            (f"{backend}: copy {copy:.3g} GB/s", (left * 1.3, left * 1.3 * copy), "left", 6),
        ):
            offset = (shift, -4 if is_below else 4)
            axes.annotate(caption, at, ha=side, textcoords="offset points", xytext=offset, **place)
    axes.set(xscale="log", yscale="log", xlabel="operations per byte of weights read (FLOP/B)", ylabel="GFLOP/s")
    legend(axes)
    return describe(figure, title, "; ".join(values) + ".")


def startup(starts: pd.DataFrame) -> Figure:
    """Draw where the time before the first timed call goes, a bar per side and kind of start.

    Args:
        starts: `Run.startup()`.
    """
    title = "Time to the first request"
    if starts.empty:
        return empty(title, "no round is recorded yet")
    figure, axes = canvas(1.2 + 0.42 * len(starts))
    names = starts["side"] + ", " + starts["kind"].str.replace("_", " ")
    left = np.zeros(len(starts))
    for part, label, colour, hatch in PARTS:
        axes.barh(names, starts[part], left=left, color=colour, hatch=hatch, edgecolor="white", label=label)
        left = left + starts[part].to_numpy()
    axes.invert_yaxis()
    axes.grid(axis="y", visible=False)
    axes.set_xlabel("seconds before the first timed call")
    legend(axes)
    return describe(figure, title, "; ".join(f"{n}: {s:.3g} s" for n, s in zip(names, left, strict=True)) + ".")


def accuracy(scores: pd.DataFrame) -> Figure:
    """Draw each item's difference from the float32 reference against the reference's probability, first label.

    Args:
        scores: `Run.last_scores()`.
    """
    title, first = "Difference from the float32 reference", scores[scores["difference"].notna()]
    if first.empty:
        return empty(title, "no confirmation round can be compared with a reference")
    first = first[first["label"].eq(first.groupby("request")["label"].transform("first"))]
    figure, axes = canvas(4.0)
    for side, style, side_scores in by_side(first):
        sns.scatterplot(side_scores, x="reference", y="difference", label=side, color=style["markerfacecolor"],
                        marker=style["marker"], edgecolor=style["color"], alpha=0.7, ax=axes)  # fmt: skip
    axes.axhline(0, color="black", linewidth=0.8)
    axes.set(xlabel="reference probability of the first label", ylabel="difference from the reference")
    axes.ticklabel_format(axis="y", style="sci", scilimits=(0, 0))
    legend(axes)
    worst = first.groupby("side", sort=False)["difference"].agg(lambda d: d.abs().max())
    return describe(figure, title, "Largest: " + "; ".join(f"{side} {v:.1e}" for side, v in worst.items()) + ".")


def sequence(requests: pd.DataFrame) -> Figure:
    """Draw each pass in order of execution. Drift shows as a slope, a disturbed round as a jump.

    Args:
        requests: rows of `Run.requests()`, each side at one chunk size.
    """
    title = "Run sequence"
    if requests.empty:
        return empty(title, "no round is recorded yet")
    figure, axes = canvas(3.9)
    passes = requests.groupby(["side", "backend", "view", "position", "pass"], sort=False)["seconds"].sum()
    passes = passes.reset_index()
    for side, style, side_passes in by_side(passes):
        axes.plot(side_passes["position"], side_passes["seconds"], label=side, **style | {"linestyle": "none"})
    axes.set(xlabel="position of the round in the run", ylabel="seconds per pass", ylim=(0, None))
    legend(axes)
    return describe(figure, title, "Every timed pass, tuning rounds included.")


def samples(calls: pd.DataFrame) -> Figure:
    """Draw every call by round, or by chunk size for a single round. Colours: timed, warm-up, replaced.

    Args:
        calls: rows of `Run.calls()`, of one side and chunk size, or of one round.
    """
    title = "Every call"
    if calls.empty:
        return empty(title, "no call is recorded")
    figure, axes = canvas(3.8)
    shown = calls.sort_values("position").assign(ms=calls["seconds"] * 1e3)
    shown["round"] = shown["role"] + "\n" + shown["index"].astype(str)
    colours = {"warm-up": "#999999", "timed": "#0072B2", "replaced": "#D55E00"}
    x = "round" if shown["round"].nunique() > 1 else "chunk_size"
    sns.stripplot(shown, x=x, y="ms", hue="kind", palette={k: colours[k] for k in shown["kind"].unique()},
                  dodge=True, alpha=0.7, size=4, ax=axes)  # fmt: skip
    axes.set(xlabel="" if x == "round" else "chunk size", ylabel="ms per call", ylim=(0, None))
    legend(axes)
    return describe(figure, title, f"{len(shown)} calls in {shown['round'].nunique()} rounds.")
