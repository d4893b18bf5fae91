"""Tables and closing lines for the command line."""

from __future__ import annotations

from rich.markup import escape
from rich.table import Table

from scorematrix.compare.schema import Comparison
from scorematrix.report.formatting import MARKS, TextTable, giga, milliseconds, percent
from scorematrix.results.target_records import Attempt, CompiledCell


def closing_lines(comparison: Comparison) -> list[str]:
    """Return completeness, verdicts, warnings and every skip notice as plain text."""
    done = f"{comparison.rounds_done} of {comparison.rounds_planned} rounds"
    head = "PARTIAL" if comparison.partial else "COMPLETE"
    return [
        f"{head}: {done}, {comparison.workload.n_items} items, {comparison.machine}",
        *(contrast.sentence for contrast in comparison.contrasts),
        *(f"warning: {warning}" for warning in comparison.warnings),
        *(notice.text for notice in comparison.notices),
    ]


def figure_lines(comparison: Comparison) -> list[str]:
    """List every measured cell: call time, throughput, share of peak; then each side's ceilings and profile."""
    form = "{:24} {:>6} {:>10} {:>10} {:>24} {:>9}"
    lines = [form.format("side", "chunk", "ms/call", "items/s", "95 %", "of peak")]
    for side in comparison.sides:
        name = side.name
        for cell in side.chunks:
            rate, low, high = cell.items_per_second, cell.items_per_second_low, cell.items_per_second_high
            if rate is None:
                lines.append(f"{name:24} {cell.chunk_size:>6} {cell.status}")
                continue
            between = f"{low:,.0f} to {high:,.0f}" if low is not None and high is not None else ""
            time, peak = milliseconds(cell.seconds_a_call), percent(cell.floor_fraction)
            lines.append(form.format(name, cell.chunk_size, time, f"{rate:,.0f}", between, peak))
        if side.matmul_flops_per_second and side.copy_bytes_per_second:
            matmul, copy = giga(side.matmul_flops_per_second), giga(side.copy_bytes_per_second)
            lines.append(f"  measured peak in {side.framework}: matmul {matmul} GFLOP/s, copy {copy} GB/s")
        if attention := side.form_times:
            lines.append(f"  attention of the largest call: {attention}")
        if side.profile and side.profile.parts:
            shares = ", ".join(f"{part.part.replace('_', ' ')} {percent(part.share)}" for part in side.profile.parts)
            lines.append(f"  time of a {side.profile.chunk_size}-item call: {shares}")
    return lines


def attempt_line(attempt: Attempt) -> str:
    """Return a line for an attempt to get a machine, at its start or its end."""
    if attempt.outcome == "begun":
        return f"{attempt.zone}: requesting {attempt.machine_type} as {attempt.name}"
    kind = f" ({attempt.kind})" if attempt.kind else ""
    behind = f"; GIVE BACK: {attempt.teardown}" if attempt.outcome == "half_made" else ""
    return f"{attempt.zone}: {attempt.outcome}{kind}: {' '.join(attempt.text.split())[:300]}{behind}"


def compiled_line(cell: CompiledCell) -> str:
    """Return a line for a cell that was compiled without a device."""
    mesh = f", mesh {cell.mesh}" if cell.mesh else ""
    name = f"{cell.backend} {cell.view}, chunk {cell.chunk_size}, {cell.dtype}{mesh}"
    if cell.status in ("failed", "not_compiled"):
        return f"{name}: {cell.status.upper().replace('_', ' ')}: {' '.join((cell.error or '').split())[:300]}"
    known = {"weights and inputs": cell.arguments_bytes, "temporaries": cell.temporaries_bytes, "code": cell.code_bytes}
    sizes = ", ".join(f"{kind} {n / 1e9:.2f} GB" for kind, n in known.items() if n is not None)
    chip = f"of {cell.chip_bytes / 1e9:.1f} GB{' a chip' if cell.mesh else ''}"
    if cell.status == "too_large":
        by = f" by {cell.over_bytes / 1e9:.2f} GB" if cell.over_bytes else ""
        return f"{name}: DOES NOT FIT{by}, {chip}{f' ({sizes})' if sizes else ''}"
    return f"{name}: compiled, not measured; {sizes} {chip} ({cell.seconds:.0f} s here)"


def estimate_lines(cell: CompiledCell) -> list[str]:
    """Return the compiler's estimates of a cell, with the cell's floor and its costliest operations."""
    if (estimate := cell.estimate) is None:
        return []
    known = [f"floor {giga(cell.floor_flops)} GFLOP, {milliseconds(cell.floor_seconds)} ms at the datasheet's peak"]
    if estimate.flops is not None:
        loop = f" (loop body counted once, not {estimate.loop_trips} times)" if estimate.loop_trips else ""
        seconds = estimate.optimal_seconds
        optimum = f", at best {milliseconds(seconds)} ms" if seconds is not None else ""
        known.append(f"XLA counts {giga(estimate.flops)} GFLOP and {giga(estimate.bytes_accessed)} GB{optimum}{loop}")
    if estimate.cycles is not None:
        without = f" without {', '.join(estimate.without_cycles)}" if estimate.without_cycles else ""
        known.append(f"{estimate.cycles:,} cycles{without}")
    return [
        f"  ESTIMATE, not measured: {'; '.join(known)}",
        *(
            f"    {percent(estimate.share(each))} of the cycles: {each.name}, {each.operation} "
            f"({each.part.replace('_', ' ')}), {each.runs} x {each.cycles:,}"
            for each in estimate.costliest[:4]
        ),
        *(
            f"    kernel {kernel.kernel} ({kernel.part.replace('_', ' ')}): {kernel.registers} registers, "
            f"{kernel.shared_bytes:,} bytes shared, {kernel.spill_bytes:,} spilled"
            for kernel in estimate.kernels
        ),
    ]


def terminal_table(table: TextTable) -> Table:
    """Return a table for the console; a state at the start of a cell has a colour."""
    shown = Table(title=escape(table.caption), title_justify="left")
    for i, name in enumerate(table.columns):
        shown.add_column(name, justify="left" if i in table.text_columns else "right")
    for row in table.rows:
        shown.add_row(*map(_coloured, row))
    return shown


def _coloured(value: str) -> str:
    mark = next((mark for mark in MARKS if value.startswith(mark)), "")
    colour = {"PASSED": "green", "FAILED": "bold red", "INVALID": "bold red"}.get(mark, "yellow")
    return f"[{colour}]{mark}[/]{escape(value.removeprefix(mark))}" if mark else escape(value)
