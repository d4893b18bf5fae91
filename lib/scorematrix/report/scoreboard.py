"""Who does how much, side by side: as a heatmap, as a table, over what one could install instead."""

from __future__ import annotations

from typing import Any

from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap, Normalize
from matplotlib.patches import Rectangle

from scorematrix.compare.schema import ChunkResult, Comparison, PercentileValue, Side
from scorematrix.report.drawing import canvas, rate, sound
from scorematrix.report.elements import Fragment, figure, heading, paragraph, table
from scorematrix.report.ink import NONE, giga, milliseconds, percent, significant, span
from scorematrix.report.preflight import estimates_section
from scorematrix.results.targets import CompiledCell

SHADES = LinearSegmentedColormap.from_list("speed", ["#F7FBFF", "#6BAED6"])


def scoreboard(comparison: Comparison) -> Fragment:
    """The section: heatmap, table, speed over baselines, compiled cells."""
    return (
        heading("Scoreboard", "scoreboard")
        + heatmap(comparison)
        + scoreboard_table(comparison)
        + speedup_table(comparison)
        + compiled_table(comparison)
        + estimates_section(comparison.compiled)
    )


def heatmap(comparison: Comparison) -> Fragment:
    """Items per second of every cell; a cell without a figure is grey and says why in a word."""
    sides = comparison.sides
    sizes = sorted({c.chunk_size for side in sides for c in side.chunks} or comparison.params["chunk_sizes"])
    drawing, (axes,) = canvas(0.9 + 0.36 * len(sides))
    rates: dict[str, list[float]] = {}
    for side in sides:
        rates.setdefault(side.target, []).extend(map(rate, sound(side)))
    # Against the fastest of the same target: a TPU's cells would bleach a CPU's.
    shade = {target: Normalize(0, max(own)) for target, own in rates.items() if own}
    for row, side in enumerate(sides):
        by_size = {cell.chunk_size: cell for cell in side.chunks}
        if not by_size:
            word = "DEFERRED" if side.state == "skipped" else "NO ROUND YET"
            _grey(axes, 0, row, len(sizes), f"{word}: {'skipped' if side.state == 'skipped' else _state(side)}")
            continue
        for column, size in enumerate(sizes):
            cell = by_size.get(size)
            if cell is None or cell.status != "ok" or cell.items_per_second is None:
                _grey(axes, column, row, 1, _word(cell))
                continue
            colour = SHADES(shade[side.target](cell.items_per_second))
            axes.add_patch(_patch(column, row, 1, facecolor=colour))
            star = "★" if size == side.best_chunk else ""
            axes.text(column + 0.5, row + 0.5, significant(cell.items_per_second) + star, ha="center", va="center",
                      fontsize=8)  # fmt: skip
    axes.set_xlim(0, len(sizes))
    axes.set_ylim(len(sides), 0)
    axes.set_xticks([i + 0.5 for i in range(len(sizes))], [str(size) for size in sizes])
    axes.set_yticks([i + 0.5 for i in range(len(sides))], [f"{s.backend} {s.view} on {s.target}" for s in sides])
    axes.grid(visible=False)
    axes.tick_params(length=0)
    for spine in axes.spines.values():
        spine.set_visible(False)
    axes.set_xlabel("chunk size (items per call)")
    words = "Darker is faster, relative to the fastest cell of the same target. A star marks the chosen chunk size."
    return figure(drawing, "heatmap", "Items per second, every cell", words)


def scoreboard_table(comparison: Comparison) -> Fragment:
    """Every side at its chosen chunk size; what has no figure says why."""
    columns = ["side", "target", "state", "chunk", "items/s", "95 % interval", "of peak"]
    columns += ["p50 ms", "p90 ms", "p95 ms", "dtype"]
    rows = []
    for side in comparison.sides:
        head = [f"{side.backend} {side.view}", side.target]
        best = next((c for c in side.chunks if c.chunk_size == side.best_chunk), None)
        if best is None or best.status != "ok":
            word = {"skipped": "DEFERRED", "failed": "INVALID"}.get(side.state, NONE)
            rows.append([*head, f"{word}: {_state(side)}", *([NONE] * 7), side.dtype or NONE])
            continue
        rows.append(
            [
                *head,
                _state(side),
                str(side.best_chunk),
                significant(best.items_per_second),
                span(best.items_per_second_low, best.items_per_second_high),
                percent(best.floor_fraction),
                *(latency(best, p) for p in (50, 90, 95)),
                side.dtype or NONE,
            ]
        )
    note = (
        "Latency is the time of one request: all its items, one call after the other. The chunk size (items per call) "
        'was chosen on tuning rounds; the figures come from confirmation rounds. "wide" marks a percentile of few '
        "samples. Share of peak: ideal time at the measured matmul peak divided by measured time."
    )
    caption = "Throughput and latency of each side at its chosen chunk size"
    return table(caption, columns, rows, words=(0, 1, 2, 10)) + paragraph(note, "note")


def speedup_table(comparison: Comparison) -> Fragment:
    """How much faster each side is than what one could install instead; nothing where no baseline was planned."""
    if not comparison.speedups:
        return Fragment("")
    rows = [
        [
            f"{s.backend} {s.view}",
            f"{s.baseline} {s.baseline_view}",
            s.target,
            significant(s.effect.ratio) if s.effect else f"{NONE}: {s.reason}",
            span(s.effect.low, s.effect.high) if s.effect else NONE,
        ]
        for s in comparison.speedups
    ]
    caption = "Baseline time over the side's time, each at its own best chunk size (above 1, the side is faster)"
    return table(caption, ["side", "baseline", "target", "speed-up", "95 % interval"], rows, words=(0, 1, 2))


def compiled_table(comparison: Comparison) -> Fragment:
    """What a target's compiler said of cells that nothing here can run; nothing where it was not asked."""
    rows = [
        [
            f"{cell.backend} {cell.view}" + (f", mesh {cell.mesh}" if cell.mesh else ""),
            record.target,
            str(cell.chunk_size),
            cell.dtype,
            _compiled(cell),
            *(giga(n) for n in (cell.arguments_bytes, cell.temporaries_bytes, cell.code_bytes)),
            giga(cell.chip_bytes),
        ]
        for record in comparison.compiled
        for cell in record.cells
    ]
    if not rows:
        return Fragment("")
    compilers = ", ".join(dict.fromkeys(record.compiler for record in comparison.compiled))
    caption = f"Compiled, not measured: programs made by the target's own compiler ({compilers}) without a device"
    columns = ["side", "target", "chunk", "dtype", "state", "inputs GB", "temporaries GB", "code GB", "chip GB"]
    return table(caption, columns, rows, words=(0, 1, 3, 4))


def latency(cell: ChunkResult, percent: int) -> str:
    """A percentile in milliseconds, or how many samples were too few for it."""
    found: PercentileValue | None = next((p for p in cell.latency if p.percent == percent), None)
    if found is None or found.state == "suppressed":
        return f"{NONE} (n={found.n if found else 0})"
    return milliseconds(found.value_seconds) + (" wide" if found.state == "wide" else "")


def _state(side: Side) -> str:
    if side.state == "measured":
        return "measured"
    return {
        "partial": f"{side.n_rounds} of {side.n_rounds_planned} rounds",
        "skipped": "skipped, see the banner",
        "not_started": "no round yet",
        "failed": "every cell failed",
    }[side.state]


def _compiled(cell: CompiledCell) -> str:
    if cell.status == "compiled":
        return "compiled, not measured"
    if cell.status == "not_compiled":
        return f"SKIPPED: not compiled, {(cell.error or 'no compiler').split(';')[0]}"
    if cell.status == "too_large":
        return f"INVALID: does not fit{f' by {giga(cell.over_bytes)} GB' if cell.over_bytes else ''}"
    return f"INVALID: {' '.join((cell.error or 'the compiler gave no reason').split())[:200]}"


def _word(cell: ChunkResult | None) -> str:
    if cell is None:
        return "n/a"
    return "INVALID" if cell.status in ("failed", "timeout") else "n/a"


def _grey(axes: Axes, column: int, row: int, width: int, word: str) -> None:
    axes.add_patch(_patch(column, row, width, facecolor="#EEEEEE", hatch="///"))
    axes.text(column + width / 2, row + 0.5, word, ha="center", va="center", fontsize=7 if width == 1 else 8,
              bbox={"facecolor": "#EEEEEE", "edgecolor": "none", "pad": 1})  # fmt: skip


def _patch(column: int, row: int, width: int, **look: Any) -> Rectangle:
    return Rectangle((column, row), width, 1, edgecolor="#FFFFFF", linewidth=2, **look)
