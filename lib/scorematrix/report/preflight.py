"""Tables of the preflight and round notebooks."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

from scorematrix.report.formatting import NONE, TextTable, giga, milliseconds, percent, significant
from scorematrix.report.html import Fragment, bullets, paragraph, table
from scorematrix.results.figures import cell_figures
from scorematrix.results.schema import PlannedRound, Round
from scorematrix.results.status import runnable
from scorematrix.results.target_records import CompiledCell, CompiledRecord, Readiness

if TYPE_CHECKING:
    from scorematrix.compare.schema import Comparison


def readiness_table(readiness: Readiness) -> TextTable:
    """Return a row per (target, backend): ready, or skipped with the reason, evidence and next step."""
    rows = [
        [
            s.label,
            s.backend,
            ", ".join(s.views),
            "ready" if s.state == "ready" else f"SKIPPED: {s.reason}",
            s.evidence,
            s.next_step or "",
        ]
        for s in readiness.states
    ]
    columns = ["target", "backend", "views", "state", "evidence", "next step"]
    return TextTable(f"Readiness of {readiness.machine}", columns, rows, range(6))


def readiness_page(readiness: Readiness) -> Fragment:
    """Return the table, then compilers' estimates for what cannot run here."""
    return table(*readiness_table(readiness)) + estimates_section(readiness.compiled)


def plan_summary(plan: Sequence[PlannedRound], readiness: Readiness) -> Fragment:
    """Return how many rounds of each kind will run here, and how many wait for another machine."""
    counts: Counter[tuple[str, ...]] = Counter()
    runs = {planned.name for planned in runnable(plan, readiness, ())}
    for planned in plan:
        skipped = readiness.skip(planned.target, planned.backend) is not None
        here = "runs here" if planned.name in runs else "SKIPPED here" if skipped else "not needed: another one runs"
        counts[planned.backend, planned.view, planned.target, planned.role, here] += 1
    rows = [[*key, str(n)] for key, n in counts.items()]
    columns = ["backend", "view", "target", "role", "state", "rounds"]
    return table("Rounds of the plan", columns, rows, text_columns=range(5))


def estimates_section(records: Sequence[CompiledRecord]) -> Fragment:
    """Return compilers' estimates for cells that cannot run here, with each cell's floor; empty without estimates.

    Each caption says that nothing is measured.
    """
    cells = [(record.target, cell) for record in records for cell in record.cells if cell.estimate is not None]
    if not cells:
        return Fragment("")
    note = (
        "Floor: the fewest operations that score the call exactly, and their time at the datasheet's dense bfloat16 "
        "peak. XLA's counts and its optimum include the body of a loop (here, one layer) only once; cycles include "
        "every iteration. The compiler does not estimate cycles for this project's kernels."
    )
    return _estimates(cells) + paragraph(note, "note") + _costliest(cells) + _kernels(cells)


def _estimates(cells: Sequence[tuple[str, CompiledCell]]) -> Fragment:
    rows = [
        [
            *_named(target, cell),
            giga(cell.floor_flops),
            significant(cell.floor_seconds),
            giga(estimate.flops),
            giga(estimate.bytes_accessed),
            NONE if estimate.loop_trips is None else str(estimate.loop_trips),
            significant(estimate.optimal_seconds),
            NONE if estimate.cycles is None else f"{estimate.cycles:,}",
            ", ".join(estimate.without_cycles),
        ]
        for target, cell in cells
        if (estimate := cell.estimate) is not None
    ]
    columns = ["side", "target", "chunk", "floor GFLOP", "floor s", "XLA GFLOP", "XLA GB", "loop iterations"]
    columns += ["XLA optimum s", "cycles", "not in the cycles"]
    caption = "Estimated by the compiler, not measured: cost of the largest call"
    return table(caption, columns, rows, text_columns=(0, 1, 10))


def _costliest(cells: Sequence[tuple[str, CompiledCell]]) -> Fragment:
    rows = [
        [
            *_named(target, cell),
            each.name,
            each.operation,
            each.part.replace("_", " "),
            str(each.runs),
            f"{each.cycles:,}",
            percent(estimate.share(each)),
        ]
        for target, cell in cells
        if (estimate := cell.estimate) is not None
        for each in estimate.costliest
    ]
    if not rows:
        return Fragment("")
    columns = ["side", "target", "chunk", "instruction", "operation", "part", "runs", "cycles per run", "share"]
    caption = "Estimated by the compiler, not measured: the costliest operations of each cell"
    return table(caption, columns, rows, text_columns=(0, 1, 3, 4, 5))


def _kernels(cells: Sequence[tuple[str, CompiledCell]]) -> Fragment:
    rows = [
        [
            *_named(target, cell),
            kernel.kernel,
            kernel.part.replace("_", " "),
            str(kernel.registers),
            f"{kernel.shared_bytes:,}",
            f"{kernel.spill_bytes:,}",
        ]
        for target, cell in cells
        if (estimate := cell.estimate) is not None
        for kernel in estimate.kernels
    ]
    if not rows:
        return Fragment("")
    columns = ["side", "target", "chunk", "kernel", "part", "registers", "shared bytes", "spilled bytes"]
    caption = "Reported by NVIDIA's assembler, not measured: attention kernels"
    return table(caption, columns, rows, text_columns=(0, 1, 3, 4))


def _named(target: str, cell: CompiledCell) -> list[str]:
    return [f"{cell.backend} {cell.view}", target, str(cell.chunk_size)]


def round_page(round_: Round) -> Fragment:
    """Return a round's figures by chunk size, its device and its start-up times."""
    rows = [
        [
            cell.name,
            "ok",
            significant(cell.items_per_second),
            milliseconds(cell.median_request_seconds),
            str(cell.n_requests),
        ]
        if cell.items_per_second is not None
        else [cell.name, f"{cell.status}: {cell.error}", NONE, NONE, NONE]
        for cell in cell_figures(round_)
    ]
    columns = ["chunk", "status", "items/s", "median ms per request", "requests timed"]
    page = table(f"Round {round_.name} ({round_.role})", columns, rows, text_columns=(0, 1))
    if round_.error:
        page += paragraph(f"The round failed: {round_.error}")
    if round_.record and round_.setup:
        compiles = round_.setup.compiles
        cached = sum(c.from_cache for c in compiles)
        page += bullets(
            [
                f"{round_.backend} {round_.view} on {round_.record.device}, {round_.record.precision}",
                f"model read in {significant(round_.setup.load_model_seconds)} s, placed in "
                f"{significant(round_.setup.load_backend_seconds)} s, prepared in "
                f"{significant(round_.setup.prepare_seconds)} s ({len(compiles)} programs, {cached} from the cache)",
            ]
        )
    return page


def compiled_table(comparison: Comparison) -> Fragment:
    """Return the compile result of cells that cannot run here; empty if nothing was compiled."""
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
    caption = f"Compiled, not measured: programs from the target's compiler ({compilers}), without a device"
    columns = ["side", "target", "chunk", "dtype", "state", "inputs GB", "temporaries GB", "code GB", "chip GB"]
    return table(caption, columns, rows, text_columns=(0, 1, 3, 4))


def _compiled(cell: CompiledCell) -> str:
    if cell.status == "compiled":
        return "compiled, not measured"
    if cell.status == "not_compiled":
        return f"SKIPPED: not compiled, {(cell.error or 'no compiler').split(';')[0]}"
    if cell.status == "too_large":
        return f"INVALID: does not fit{f' by {giga(cell.over_bytes)} GB' if cell.over_bytes else ''}"
    return f"INVALID: {' '.join((cell.error or 'the compiler gave no reason').split())[:200]}"
