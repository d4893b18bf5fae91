"""A picture of readiness: targets by backends, as text and colour."""

from __future__ import annotations

import textwrap

import matplotlib
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from scorematrix.analysis.style import STYLE, describe, empty
from scorematrix.results.target_records import Readiness, TargetState

READY, SKIPPED, UNPLANNED = ("#CFE8DC", ""), ("#FBE3C8", "///"), ("#F4F4F4", "")
"""Face colour and hatch. Every field has text too, so that neither colour nor hatch is needed to read it."""


def readiness_picture(readiness: Readiness) -> Figure:
    """Draw every target of a plan by every backend: ready, skipped and why, or not in the plan."""
    if not readiness.states:
        return empty("Readiness", "nothing is planned")
    labels = {s.target: s.label for s in readiness.states}
    backends = list(dict.fromkeys(s.backend for s in readiness.states))
    with matplotlib.rc_context({**STYLE, "axes.grid": False, "hatch.linewidth": 0.4}):
        drawing = Figure(figsize=(2.6 + 1.75 * len(backends), 0.7 + 0.95 * len(labels)), layout="constrained")
        axes = drawing.subplots()
        for row, target in enumerate(labels):
            for column, backend in enumerate(backends):
                (face, hatch), message = _field(readiness.state(target, backend))
                axes.add_patch(Rectangle((column + 0.03, row + 0.05), 0.94, 0.9, facecolor=face, edgecolor="#777777",
                                         hatch=hatch))  # fmt: skip
                box = {"facecolor": face, "edgecolor": "none", "pad": 1.5}
                axes.text(column + 0.5, row + 0.5, message, ha="center", va="center", bbox=box,
                          fontweight="bold" if face == READY[0] else "normal")  # fmt: skip
    axes.set_xlim(0, len(backends))
    axes.set_ylim(len(labels), 0)
    axes.set_xticks([i + 0.5 for i in range(len(backends))], backends, fontweight="bold")
    axes.set_yticks([i + 0.5 for i in range(len(labels))], [_wrapped(t, label) for t, label in labels.items()])
    axes.xaxis.tick_top()
    axes.tick_params(length=0)
    for spine in axes.spines.values():
        spine.set_visible(False)
    n_ready = len(readiness.states) - len(readiness.skipped)
    spoken = "; ".join(
        f"{s.backend} on {s.label}: {'ready' if s.state == 'ready' else f'skipped, {s.reason}'}"
        for s in readiness.states
    )
    head = f"{n_ready} of {len(readiness.states)} are ready here"
    return describe(drawing, head, f"{spoken}. A skip does not stop the others.")


def _field(state: TargetState | None) -> tuple[tuple[str, str], str]:
    if state is None:
        return UNPLANNED, "not in the plan"
    if state.state == "ready":
        return READY, "READY\n" + "\n".join(state.views)
    return SKIPPED, f"SKIPPED\n{state.reason}"


def _wrapped(target: str, label: str) -> str:
    return "\n".join(textwrap.wrap(label if target in label else f"{label} ({target})", 24))
