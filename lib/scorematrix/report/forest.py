"""The verdicts in one drawing: effects with intervals, the margin shaded, what is deferred hatched."""

from __future__ import annotations

import textwrap

from scorematrix.compare.schema import Comparison
from scorematrix.report.banner import verdict_word
from scorematrix.report.drawing import COLOURS, MARKERS, canvas, nothing, side_labels
from scorematrix.report.elements import Fragment, figure


def forest(comparison: Comparison) -> Fragment:
    """Each comparison's effect with its interval against the margin; hatched where there is none to show."""
    contrasts = comparison.contrasts
    if not contrasts:
        return nothing("Verdicts")
    drawing, (axes,) = canvas(0.9 + 0.55 * len(contrasts))
    spoken, edge = [], _edge(comparison)
    for row, contrast in enumerate(reversed(contrasts)):
        word, effect = verdict_word(contrast), contrast.effect
        if effect is None or contrast.verdict in ("deferred", "invalid"):
            axes.barh(row, 2 * edge - 1 / edge + 1, left=1 / edge, height=0.6, facecolor="none", edgecolor="#999999",
                      hatch="///", linewidth=0)  # fmt: skip
            axes.text(1.0, row, word, ha="center", va="center", backgroundcolor="white", fontweight="bold")
            spoken.append(f"{contrast.name}, {contrast.view}: {word}, no ratio")
            continue
        axes.barh(row, contrast.margin + 1 - 1 / (1 + contrast.margin), left=1 / (1 + contrast.margin), height=0.6,
                  color="#DDDDDD")  # fmt: skip
        won = contrast.verdict if contrast.verdict in COLOURS else None
        speed, low, high = effect.inverse.ratio, effect.inverse.low, effect.inverse.high
        axes.errorbar(speed, row, xerr=[[speed - low], [high - speed]], fmt=MARKERS.get(won or "", "D"), capsize=5,
                      color=COLOURS.get(won or "", "#333333"), markersize=8, linewidth=2)  # fmt: skip
        axes.annotate(word, (1.0, row), xycoords=("axes fraction", "data"), textcoords="offset points", xytext=(6, -4),
                      fontweight="bold")  # fmt: skip
        spoken.append(f"{contrast.name}, {contrast.view}: {word}, {speed:.3f} ({low:.3f} to {high:.3f})")
    axes.set_yticks(range(len(contrasts)), [_wrapped(f"{c.name}, {c.view}") for c in reversed(contrasts)])
    axes.axvline(1.0, color="black", linewidth=0.8)
    axes.set_xscale("log")
    axes.set_xlim(1 / edge, edge * 1.15)
    ticks = [
        t
        for t in (0.001, 0.01, 0.1, 0.25, 0.5, 0.8, 0.9, 1.0, 1.1, 1.25, 2.0, 4.0, 10.0, 100.0, 1000.0)
        if 1 / edge <= t <= edge
    ]
    axes.set_xticks(ticks, [f"{t:g}" for t in ticks])
    axes.minorticks_off()
    axes.grid(axis="y", visible=False)
    first, second = side_labels(contrasts)
    axes.set_xlabel(f"speed of {first} / speed of {second} (right of 1: {first} is faster)")
    rows = "; ".join(reversed(spoken))
    words = (
        "Each point is the speed ratio with its 95 % interval. The grey band is the decision margin: an interval "
        "beyond it names a winner."
    )
    return figure(drawing, "forest", "Verdicts", words, f"{rows}.")


def _edge(comparison: Comparison) -> float:
    """How far to either side the drawing of verdicts reaches: to every effect and margin, and to wide intervals."""
    effects = [contrast.effect for contrast in comparison.contrasts if contrast.effect]
    points = [1.25, *(1.2 * (1 + c.margin) for c in comparison.contrasts if c.effect)]
    points += [max(effect.ratio, 1 / effect.ratio) for effect in effects]
    ends = [end for effect in effects if effect.low > 0 for end in (effect.high, 1 / effect.low)]
    return max(1.1 * max(points), min(1.1 * max(ends, default=1.0), 20.0))


def _wrapped(name: str) -> str:
    return "\n".join(textwrap.wrap(name, 34))
