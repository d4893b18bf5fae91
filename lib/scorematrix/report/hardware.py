"""How near each side comes to what the hardware gives: a roofline, and the ceilings that it is drawn from."""

from __future__ import annotations

from scorematrix.compare.schema import Comparison, Side
from scorematrix.report.drawing import NO_LINE, canvas, legend, look, measured, name, nothing, sound
from scorematrix.report.elements import Fragment, figure, heading, paragraph, table
from scorematrix.report.ink import NONE, giga, milliseconds, percent


def hardware(comparison: Comparison) -> Fragment:
    """The section: roofline and ceilings."""
    return (
        heading("Distance to the hardware's limit", "hardware")
        + roofline(comparison)
        + ceilings_table(comparison)
        + profile_table(comparison)
    )


def roofline(comparison: Comparison) -> Fragment:
    """Operations a second against operations a byte of weights, under the ceilings measured in this run."""
    sides = [s for s in measured(comparison) if s.ridge_flops_per_byte and _points(s)]
    if not sides:
        return nothing("Roofline", "it needs operation counts and ceilings, which tuning rounds measure")
    drawing, (axes,) = canvas()
    reach = [x for side in sides for x, _ in _points(side)]
    spoken = []
    for side in sides:
        own, peak, copy = look(side), side.matmul_flops_per_second, side.copy_bytes_per_second
        ridge = side.ridge_flops_per_byte
        assert ridge is not None and peak is not None and copy is not None  # the ridge is the quotient of the others
        left, right = min(*reach, ridge) / 2, max(*reach, ridge) * 2
        axes.plot([left, ridge, right], [left * copy / 1e9, peak / 1e9, peak / 1e9], color=own["color"],
                  linestyle=own["linestyle"], linewidth=0.9, alpha=0.8)  # fmt: skip
        points = _points(side)
        axes.plot([x for x, _ in points], [y / 1e9 for _, y in points], label=name(side),
                  **own | NO_LINE)  # fmt: skip
        best = next((c for c in sound(side) if c.chunk_size == side.best_chunk), None)
        if best is not None and best.mfu is not None:
            spoken.append(f"{name(side)}, chunk {best.chunk_size}: {percent(best.mfu)} of its peak")
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xlabel("operations per byte of weights read (FLOP/B)")
    axes.set_ylabel("GFLOP/s")
    legend(axes)
    words = (
        "Each point is a chunk size. The thin lines are the ceilings that the side's framework reached in this run: a "
        "copy, then the fastest matmul. Operations count real tokens only, the query once per call. Bytes count the "
        f"weights once per call; real traffic is higher. {'; '.join(spoken)}."
    )
    return figure(drawing, "roofline", "Roofline", words)


def ceilings_table(comparison: Comparison) -> Fragment:
    """What the hardware gave each side at best, in the same session, and what its maker says beside it."""
    columns = ["side", "target", "dtype", "matmul GFLOP/s", "copy GB/s", "datasheet bf16 GFLOP/s", "datasheet GB/s"]
    rows = [
        [
            f"{s.backend} {s.view}",
            s.target,
            s.dtype or NONE,
            *(giga(n) for n in (s.matmul_flops_per_second, s.copy_bytes_per_second)),
            *(giga(getattr(s.datasheet, f, None)) for f in ("bfloat16_flops_per_second", "memory_bytes_per_second")),
        ]
        for s in comparison.sides
    ]
    caption = "Ceilings: fastest square matrix product and copy of each framework, measured in tuning rounds"
    sheets = {s.target: s.datasheet for s in comparison.sides if s.datasheet}
    sources = "; ".join(f"{target}: {sheet.source}, read {sheet.date}" for target, sheet in sheets.items())
    below = paragraph(f"Datasheets: {sources}.", "note") if sources else Fragment("")
    return table(caption, columns, rows, words=(0, 1, 2)) + below


def profile_table(comparison: Comparison) -> Fragment:
    """Show how one call's time splits across the parts of each engine."""
    found = [(side, side.profile) for side in comparison.sides if side.profile]
    if not found:
        return nothing("Time by part of the engine", "no tuning round of a best-native engine recorded a profile")
    rows, notes = [], []
    for side, profile in found:
        if profile.error:
            notes.append(f"{name(side)}: the profiler failed: {profile.error}")
            continue
        notes.append(f"{name(side)}: {milliseconds(profile.seconds)} ms for a call of {profile.chunk_size} items")
        rows += [
            [
                name(side),
                part.part.replace("_", " "),
                milliseconds(part.seconds),
                percent(part.share),
                str(part.n),
                giga(part.flops_per_second),
                percent(part.ceiling_fraction),
            ]
            for part in profile.parts
        ]
    columns = ["side", "part", "ms", "share", "operations", "GFLOP/s", "of peak"]
    below = (
        "One call under the framework's profiler, after all timing. The profiler slows the call, and operations may "
        "overlap. On a GPU this call launches each kernel separately; timed calls replay CUDA graphs. "
        "Query attention: the query to itself. Prefix attention: items to the query. Own items: each item to itself. "
        f"Other: norms, rotary embedding, gates, copies. {'. '.join(notes)}."
    )
    return table("Time by part of the engine", columns, rows, words=(0, 1)) + paragraph(below, "note")


def _points(side: Side) -> list[tuple[float, float]]:
    return [
        (c.flops_per_weight_byte, c.flops_per_second)
        for c in sound(side)
        if c.flops_per_weight_byte and c.flops_per_second
    ]
