"""How far scores are from the float32 reference, and on which items most."""

from __future__ import annotations

import pandas as pd

from scorematrix.compare.schema import Comparison
from scorematrix.report.drawing import canvas, legend, look, measured, name, nothing, rows_of
from scorematrix.report.elements import Fragment, figure, paragraph, table
from scorematrix.report.ink import NONE, percent, significant, small
from scorematrix.results.frames import furthest

WORST = 3
LONGEST_TEXT = 120


def numerics(comparison: Comparison, compared: pd.DataFrame) -> Fragment:
    """Difference from the reference against the reference probability, first label, chosen chunk, last round.

    Args:
        compared: of `results.frames.against_reference`.
    """
    drawing, (axes,) = canvas()
    shown = False
    for side in measured(comparison):
        own = rows_of(compared, side)
        if own.empty:
            continue
        shown = True
        own = own[own["label"] == own["label"].iloc[0]]
        axes.plot(own["reference"], own["difference"], label=name(side),
                  **(look(side) | {"linestyle": "none", "alpha": 0.6}))  # fmt: skip
    if not shown:
        return nothing("Numerics", "no confirmation round can be compared with a reference")
    axes.axhline(0, color="black", linewidth=0.8)
    axes.set_xlabel("reference probability of the first label")
    axes.set_ylabel("difference from the reference")
    axes.ticklabel_format(axis="y", style="sci", scilimits=(0, 0))
    legend(axes)
    words = "Each point is an item, scored by a timed call of the last confirmation round. The line is exact agreement."
    return figure(drawing, "numerics-drawing", "Difference from the float32 reference", words)


def worst_items(comparison: Comparison, compared: pd.DataFrame) -> Fragment:
    """The items on which each side is furthest from the reference, with their text."""
    rows = []
    for side in measured(comparison):
        for _, row in furthest(rows_of(compared, side), WORST).iterrows():
            rows.append(
                [
                    name(side),
                    _words(row),
                    row["label"].strip() or repr(row["label"]),
                    significant(row["reference"], 4),
                    significant(row["probability"], 4),
                    small(row["apart"]),
                ]
            )
    if not rows:
        return Fragment("")
    columns = ["side", "item", "label", "reference P", "P", "difference"]
    return table(f"The {WORST} items of each side that are furthest from the reference", columns, rows, words=(0, 1, 2))


def accuracy_table(comparison: Comparison) -> Fragment:
    """Distance from the float32 reference, how well order is kept, and how well the answers fit the gold labels."""
    overlaps = sorted({k for s in comparison.sides for k in s.top_overlap})
    columns = ["side", "target", "dtype", "mean difference", "largest difference", "tau-b"]
    columns += [*(f"top {k}" for k in overlaps), "label flips", "AUC against gold"]
    rows = [
        [
            f"{s.backend} {s.view}",
            s.target,
            s.dtype or NONE,
            small(s.mean_difference),
            small(s.max_difference),
            significant(s.tau_b, 4),
            *(percent(s.top_overlap.get(k)) for k in overlaps),
            NONE if s.label_flips is None else str(s.label_flips),
            significant(s.auc),
        ]
        for s in comparison.sides
    ]
    note = (
        "Items are ordered by the first label's probability: Kendall's tau-b, and the share of the reference's top "
        "items that the side has too. All figures are the worst over rounds and chunk sizes."
    )
    caption = "Probabilities against one float32 sequence per item (Hugging Face transformers)"
    return table(caption, columns, rows, words=(0, 1, 2)) + paragraph(note, "note")


def _words(row: pd.Series) -> str:
    """The item's own text where there is one, else its place."""
    place = f"{row['request']}, item {row['item']}"
    if not row["text"]:
        return place
    shown = " ".join(str(row["text"]).split())
    return f"{shown[:LONGEST_TEXT]}{'…' if len(shown) > LONGEST_TEXT else ''} ({place})"
