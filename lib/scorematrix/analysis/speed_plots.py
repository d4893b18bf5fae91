"""Plots of who is faster: ratios, curves, latency. Each takes a frame of a run and returns a `Figure`."""

# What rows and cells of a frame hold is unknown to a type checker.
# pyright: reportAttributeAccessIssue=false, reportOptionalMemberAccess=false, reportOperatorIssue=false
# pyright: reportCallIssue=false, reportArgumentType=false, reportGeneralTypeIssues=false

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure

from scorematrix.analysis.style import (
    COLOURS,
    MARKERS,
    QUESTIONS,
    by_side,
    canvas,
    chunk_ticks,
    describe,
    empty,
    legend,
    palette,
    tooltip,
    tooltip_at,
)
from scorematrix.compare.statistics import geometric_interval

SHADES = LinearSegmentedColormap.from_list("speed", ["#F7FBFF", "#6BAED6"])
TAIL_SAMPLES = 20
"""With at least this many requests, the tail has a log axis."""
LADDERS = (
    (2.2, (0.5, 0.6, 0.7, 0.8, 0.9, 1.0, 1.1, 1.25, 1.5, 1.75, 2.0)),
    (25.0, (0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0)),
    (np.inf, tuple(10.0**n for n in range(-9, 10))),
)
"""Labelled speed ratios, for axes that reach less than this factor to either side of 1."""
STATUS_WORDS = {"failed": "INVALID", "timeout": "INVALID", "skipped": "SKIPPED", "not_run": "no round yet"}


def geometric_mean(values: pd.Series) -> float:
    """Return the geometric mean, as the comparison uses it for rates: `estimator=plots.geometric_mean` in seaborn."""
    return geometric_interval(values.tolist()).center


def t_interval(values: pd.Series) -> tuple[float, float]:
    """Return the comparison's 95 % interval of the geometric mean: `errorbar=plots.t_interval` in seaborn."""
    interval = geometric_interval(values.tolist())
    return (interval.low, interval.high) if interval.n > 1 else (interval.center, interval.center)


def speed_ratios(verdicts: pd.DataFrame) -> Figure:
    """Draw each comparison's speed ratio with its 95 % interval, the tie margin, and the margin that noise added.

    Args:
        verdicts: `Run.verdicts()`.
    """
    title = "Speed ratio of each comparison"
    if verdicts.empty:
        return empty(title, "this run compares nothing")
    figure, axes = canvas(1.3 + 0.55 * len(verdicts))
    known = verdicts[verdicts["speed_ratio"].notna() & ~verdicts["verdict"].isin(["deferred", "invalid"])]
    edge, values = _edge(known), []
    for row, v in enumerate(verdicts[::-1].itertuples(index=False)):
        word, where = v.verdict.upper(), f"{v.comparison}, {v.view}"
        if v.verdict in ("deferred", "invalid") or np.isnan(v.speed_ratio):
            axes.barh(row, edge - 1 / edge, left=1 / edge, height=0.6, facecolor="none", edgecolor="#999999",
                      hatch="///", linewidth=0)  # fmt: skip
            axes.text(1.0, row, word, ha="center", va="center", backgroundcolor="white", fontweight="bold")
            values.append(f"{where}: {word}, no ratio")
            continue
        for margin, shade in ((v.win_margin, "#EEEEEE"), (v.tie_margin, "#CCCCCC")):
            axes.barh(row, margin + 1 - 1 / (1 + margin), left=1 / (1 + margin), height=0.6, color=shade)
        won = v.verdict if v.verdict in COLOURS else ""
        bar = [[v.speed_ratio - v.speed_ratio_low], [v.speed_ratio_high - v.speed_ratio]]
        (point, *_) = axes.errorbar(v.speed_ratio, row, xerr=bar, fmt=MARKERS.get(won, "D"), capsize=5, markersize=8,
                                    color=COLOURS.get(won, "#333333"), linewidth=2)  # fmt: skip
        figures = f"{v.speed_ratio:.3f} ({v.speed_ratio_low:.3f} to {v.speed_ratio_high:.3f})"
        tooltip(point, f"{where}: {word}, {figures}")
        axes.annotate(word, (1.0, row), xycoords=("axes fraction", "data"), textcoords="offset points", xytext=(6, -4),
                      fontweight="bold")  # fmt: skip
        values.append(f"{where}: {word}, {figures}")
    axes.set_yticks(range(len(verdicts)), ["\n".join(textwrap.wrap(f"{v.comparison}, {v.view}", 34))
                                           for v in verdicts[::-1].itertuples()])  # fmt: skip
    axes.axvline(1.0, color="black", linewidth=0.8)
    axes.set_xscale("log")
    axes.set_xlim(1 / edge, edge)
    _log_ticks(axes, edge)
    axes.grid(axis="y", visible=False)
    first, second = _side_names(verdicts)
    axes.set_xlabel(f"speed of {first} / speed of {second} (right of 1: {first} is faster)")
    return describe(figure, title, "; ".join(reversed(values)) + ".")


def throughput(rates: pd.DataFrame) -> Figure:
    """Draw items per second by chunk size, a line per side, with bands and bars for the 95 % interval over rounds.

    With a single chunk size, every round is a point instead.

    Args:
        rates: `Run.rates()`; confirmation rounds are drawn.
    """
    title, rates = "Throughput by chunk size", rates[rates["role"].eq("confirm")]
    if rates.empty:
        return empty(title, "no confirmation round is recorded")
    over_rounds: dict[str, Any] = {"estimator": geometric_mean, "errorbar": t_interval}
    sizes, values = sorted(rates["chunk_size"].unique()), []
    if len(sizes) == 1:
        colours = palette(rates["side"])
        figure, axes = canvas(1.2 + 0.4 * len(colours))
        by = {"x": "items_per_second", "y": "side", "hue": "side", "palette": colours, "legend": False, "ax": axes}
        sns.stripplot(rates, **by)
        sns.pointplot(rates, **by, **over_rounds, linestyle="none")
        axes.set(xlim=(0, None), ylabel="", xlabel=f"items/s at chunk size {sizes[0]}")
    else:
        figure, axes = canvas(4.2)
    for side, style, side_rates in by_side(rates):
        if len(sizes) > 1:
            sns.lineplot(side_rates, x="chunk_size", y="items_per_second", label=side, ax=axes,
                         markeredgecolor=style["color"], **over_rounds, **style)  # fmt: skip
        for size, group in side_rates.groupby("chunk_size")["items_per_second"]:
            rate, (low, high) = geometric_mean(group), t_interval(group)
            values.append(f"{side}, chunk size {size}: {rate:.4g} ({low:.4g} to {high:.4g})")
            if len(sizes) > 1:
                axes.vlines(size, low, high, color=style["color"], linewidth=style["linewidth"] / 2)
                tooltip_at(axes, size, rate, values[-1])
    if len(sizes) > 1:
        chunk_ticks(axes, rates["chunk_size"])
        axes.set(ylim=(0, None), ylabel="items/s")
        legend(axes)
    return describe(figure, title, f"Items/s: {'; '.join(values)}.")


def heatmap(cells: pd.DataFrame) -> Figure:
    """Draw items per second of every cell, shaded relative to its target's fastest cell. A star: chosen chunk size.

    Args:
        cells: `Run.cells()`. A cell without a figure says why.
    """
    title, sides = "Items per second, every cell", list(dict.fromkeys(cells["side"]))
    sized = cells[cells["chunk_size"].notna()].astype({"chunk_size": int})
    if sized.empty:
        return empty(title, "no round is recorded yet")
    wide = sized.pivot(index="side", columns="chunk_size", values="items_per_second").reindex(sides)
    best = sized.groupby("target")["items_per_second"].max()
    target = cells.drop_duplicates("side").set_index("side")["target"]
    shade = wide.div(target.map(best).reindex(wide.index), axis=0)
    statuses = sized.pivot(index="side", columns="chunk_size", values="status").reindex(sides)
    unsized = cells[cells["chunk_size"].isna()].set_index("side")["status"]
    stars = sized.pivot(index="side", columns="chunk_size", values="chosen").reindex(sides).eq(True)
    labels = wide.map(lambda v: f"{v:.3g}").where(wide.notna(), statuses.map(lambda s: STATUS_WORDS.get(s, "n/a")))
    labels = labels.where(~stars, labels + "★")
    figure, axes = canvas(1.1 + 0.38 * len(sides))
    sns.heatmap(shade.fillna(0.0), annot=labels, fmt="", cmap=SHADES, vmin=0, vmax=1, cbar=False, linewidths=2,
                mask=shade.isna(), annot_kws={"color": "black", "fontsize": 9}, ax=axes)  # fmt: skip
    for row, side in enumerate(sides):
        for column in range(len(wide.columns)):
            if side not in unsized.index and np.isnan(wide.iloc[row, column]):
                axes.text(column + 0.5, row + 0.5, labels.iloc[row, column], ha="center", va="center", fontsize=8)
        if side in unsized.index:
            status = STATUS_WORDS[unsized[side]]
            axes.text(len(wide.columns) / 2, row + 0.5, status, ha="center", va="center", fontsize=9)
    axes.set_facecolor("#EEEEEE")
    axes.grid(visible=False)
    axes.set(xlabel="chunk size (items per call)", ylabel="")
    axes.tick_params(length=0, rotation=0)
    return describe(figure, title, "Darker is faster. A star marks the chosen chunk size.")


def matched(ratios: pd.DataFrame) -> Figure:
    """Draw the speed ratio at equal chunk sizes, with 95 % intervals and the tie margin.

    Args:
        ratios: `Run.matched()`.
    """
    title = "Speed ratio at the same chunk size"
    if ratios.empty:
        return empty(title, "no chunk size has two paired rounds of both sides")
    figure, axes = canvas(3.4)
    values = []
    for number, ((name, view), rows) in enumerate(ratios.groupby(["comparison", "view"], sort=False)):
        colour, marker, line = QUESTIONS[number % len(QUESTIONS)]
        bars = [rows["speed_ratio"] - rows["speed_ratio_low"], rows["speed_ratio_high"] - rows["speed_ratio"]]
        axes.errorbar(rows["chunk_size"], rows["speed_ratio"], yerr=bars, color=colour, marker=marker, linestyle=line,
                      capsize=4, label=f"{name}, {view}")  # fmt: skip
        figures = [f"{r.speed_ratio:.2f} ({r.speed_ratio_low:.2f} to {r.speed_ratio_high:.2f}) at {r.chunk_size}"
                   for r in rows.itertuples()]  # fmt: skip
        for r, ratio in zip(rows.itertuples(), figures, strict=True):
            tooltip_at(axes, r.chunk_size, r.speed_ratio, f"{name}, {view}: {ratio}")
        values.append(f"{name}, {view}: {', '.join(figures)}")
    margin = ratios["tie_margin"].iloc[0]
    axes.axhspan(1 / (1 + margin), 1 + margin, color="#CCCCCC", zorder=0)
    axes.axhline(1.0, color="black", linewidth=0.8)
    chunk_ticks(axes, ratios["chunk_size"])
    first, second = _side_names(ratios)
    axes.set_ylabel(f"speed of {first} / speed of {second}")
    legend(axes)
    return describe(figure, title, "; ".join(values) + ".")


def latency_throughput(cells: pd.DataFrame) -> Figure:
    """Draw items per second against the latency of one request, a point per chunk size. Up and to the left is better.

    Args:
        cells: `Run.cells()`; p95 is drawn if every measured cell has enough samples for it, else p50 of those that do.
    """
    title, sound = "Throughput against latency", cells[cells["status"].eq("ok")].astype({"chunk_size": int})
    column = "latency_p95_ms" if sound["latency_p95_ms"].notna().all() else "latency_p50_ms"
    sound = sound[sound[column].notna()]
    if sound.empty:
        return empty(title, "percentiles need at least 5 rounds, p50 6 requests and p95 72")
    figure, axes = canvas(4.2)
    for side, style, side_cells in by_side(sound):
        axes.plot(side_cells[column], side_cells["items_per_second"], label=side, **style)
        ends = side_cells["chunk_size"].min(), side_cells["chunk_size"].max()
        for point in side_cells.itertuples():
            at = getattr(point, column), point.items_per_second
            message = f"{side}, chunk size {point.chunk_size}: {at[1]:.4g} items/s, {at[0]:.4g} ms"
            tooltip_at(axes, *at, message)
            if len(side_cells) <= 3 or point.chosen or point.chunk_size in ends:
                axes.annotate(str(point.chunk_size), at, textcoords="offset points", xytext=(6, 5))
    axes.set(xlabel=f"{column[8:11]} latency of one request (ms)", ylabel="items/s", xlim=(0, None), ylim=(0, None))
    legend(axes)
    return describe(figure, title, "Each point is a chunk size.")


def latency(requests: pd.DataFrame) -> Figure:
    """Draw the share of requests answered within a time; a second panel shows the tail.

    Args:
        requests: rows of `Run.requests()`, each side at one chunk size.
    """
    title = "Latency distribution"
    if requests.empty:
        return empty(title, "no confirmation round is recorded")
    figure, body, tail = canvas(3.9, columns=2)
    ms = requests.assign(ms=requests["seconds"] * 1e3)
    for side, style, rows in by_side(ms):
        side_ms = rows["ms"]
        line = {key: style[key] for key in ("color", "linestyle", "linewidth")}
        sns.ecdfplot(x=side_ms, ax=body, label=f"{side} (n={len(side_ms)})", **line)
        sns.ecdfplot(x=side_ms, ax=tail, complementary=True, **line)
    body.set(ylabel="share of requests answered", xlim=(0, None))
    tail.set_ylabel("share of requests still open")
    if requests.groupby("side").size().max() >= TAIL_SAMPLES:
        tail.set_yscale("log")
    for axes in (body, tail):
        axes.set_xlabel("latency of one request (ms)")
        axes.locator_params(axis="x", nbins=6)
    figure.legend(*body.get_legend_handles_labels(), loc="outside lower center", ncols=2, frameon=False, fontsize=9)
    return describe(figure, title, f"All {len(requests)} timed requests; none dropped.")


def _side_names(frame: pd.DataFrame) -> tuple[str, str]:
    """Return the names of both sides, if all rows compare the same two."""
    pairs = frame[["first", "second"]].drop_duplicates().to_numpy().tolist()
    return tuple(pairs[0]) if len(pairs) == 1 else ("the first side", "the second side")


def _edge(known: pd.DataFrame) -> float:
    """Return the upper limit of the ratio axis: beyond every effect and margin, and every interval up to 20."""
    points = [1.25, *(1.2 * (1 + known["win_margin"])), *np.exp(np.abs(np.log(known["speed_ratio"])))]
    low = known.loc[known["speed_ratio_low"] > 0, "speed_ratio_low"]
    ends: Sequence[float] = [1.0, *known["speed_ratio_high"], *(1 / low)]
    return 1.1 * max(*points, min(max(ends), 20.0))


def _log_ticks(axes: Axes, edge: float) -> None:
    """Label a few ratios, never so many that their labels touch."""
    ticks = next(ladder for limit, ladder in LADDERS if edge < limit)
    ticks = [tick for tick in ticks if 1 / edge <= tick <= edge]
    axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    axes.minorticks_off()
