"""What the preflight and round notebooks show."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

from scorematrix.report.elements import Fragment, bullets, paragraph, table
from scorematrix.report.ink import NONE, giga, milliseconds, percent, significant
from scorematrix.results.figures import cell_figures
from scorematrix.results.schema import PlannedRound, Round
from scorematrix.results.targets import CompiledCell, CompiledRecord, Readiness

if TYPE_CHECKING:
    from scorematrix.compare.schema import Comparison


def readiness_page(readiness: Readiness) -> Fragment:
    """Every (target, backend): ready, or skipped, why, and what to do."""
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
    page = table(f"Readiness of {readiness.machine}", columns, rows, words=range(6))
    return page + estimates_section(readiness.compiled)


def plan_summary(plan: Sequence[PlannedRound], readiness: Readiness) -> Fragment:
    """How many rounds of each kind will run here, and how many wait for another machine."""
    counts: Counter[tuple[str, ...]] = Counter()
    for planned in plan:
        state = readiness.state(planned.target, planned.backend)
        here = "runs here" if state is not None and state.state == "ready" else "SKIPPED here"
        counts[planned.backend, planned.view, planned.target, planned.role, here] += 1
    rows = [[*key, str(n)] for key, n in counts.items()]
    return table("Rounds of the plan", ["backend", "view", "target", "role", "state", "rounds"], rows, words=range(5))


def estimates_section(records: Sequence[CompiledRecord]) -> Fragment:
    """What compilers estimate of cells that nothing here can run, beside each cell's floor; nothing without estimates.

    Nothing in it is measured, and each caption says so.
    """
    cells = [(record.target, cell) for record in records for cell in record.cells if cell.estimate is not None]
    if not cells:
        return Fragment("")
    note = (
        "Floor: the fewest operations that score the call exactly, and their time at the datasheet's dense bfloat16 "
        "peak. What XLA counts, its optimum too, has the body of a loop once, here one layer; cycles count every run. "
        "Kernels of ours have no estimated cycles."
    )
    return _estimates(cells) + paragraph(note, "note") + _costliest(cells) + _kernels(cells)


def _estimates(cells: Sequence[tuple[str, CompiledCell]]) -> Fragment:
    rows = [
        [
            *_named(target, cell),
            giga(cell.floor_flops),
            significant(cell.floor_seconds),
            giga(found.flops),
            giga(found.bytes_accessed),
            NONE if found.loop_trips is None else str(found.loop_trips),
            significant(found.optimal_seconds),
            NONE if found.cycles is None else f"{found.cycles:,}",
            ", ".join(found.without_cycles),
        ]
        for target, cell in cells
        if (found := cell.estimate) is not None
    ]
    columns = ["side", "target", "chunk", "floor GFLOP", "floor s", "XLA GFLOP", "XLA GB", "loop runs"]
    columns += ["XLA optimum s", "cycles", "not in the cycles"]
    return table("Estimated by the compiler, not measured: cost of the largest call", columns, rows, words=(0, 1, 10))


def _costliest(cells: Sequence[tuple[str, CompiledCell]]) -> Fragment:
    rows = [
        [
            *_named(target, cell),
            each.name,
            each.operation,
            each.part.replace("_", " "),
            str(each.runs),
            f"{each.cycles:,}",
            percent(found.share(each)),
        ]
        for target, cell in cells
        if (found := cell.estimate) is not None
        for each in found.costliest
    ]
    if not rows:
        return Fragment("")
    columns = ["side", "target", "chunk", "instruction", "from", "part", "runs", "cycles a run", "share"]
    caption = "Estimated by the compiler, not measured: the costliest operations of each cell"
    return table(caption, columns, rows, words=(0, 1, 3, 4, 5))


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
        if (found := cell.estimate) is not None
        for kernel in found.kernels
    ]
    if not rows:
        return Fragment("")
    columns = ["side", "target", "chunk", "kernel", "part", "registers", "shared bytes", "spilled bytes"]
    return table("By NVIDIA's assembler, not measured: attention kernels", columns, rows, words=(0, 1, 3, 4))


def _named(target: str, cell: CompiledCell) -> list[str]:
    return [f"{cell.backend} {cell.view}", target, str(cell.chunk_size)]


def round_page(round_: Round) -> Fragment:
    """A round's figures by chunk size, and what it was measured on."""
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
    columns = ["chunk", "status", "items/s", "median ms a request", "requests timed"]
    page = table(f"Round {round_.name} ({round_.role})", columns, rows, words=(0, 1))
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


def _compiled(cell: CompiledCell) -> str:
    if cell.status == "compiled":
        return "compiled, not measured"
    if cell.status == "not_compiled":
        return f"SKIPPED: not compiled, {(cell.error or 'no compiler').split(';')[0]}"
    if cell.status == "too_large":
        return f"INVALID: does not fit{f' by {giga(cell.over_bytes)} GB' if cell.over_bytes else ''}"
    return f"INVALID: {' '.join((cell.error or 'the compiler gave no reason').split())[:200]}"
