"""Commands about machines: what is ready, what fits, how to get one."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from scorematrix.cli.app import NOTHING_RAN, Outputs, Set, Written, app, out


@app.command()
def preflight(
    params: Annotated[Path | None, typer.Argument(help="Params file. Default: every known target.")] = None,
    target: Annotated[str | None, typer.Option(help="Show only this target.")] = None,
    compile_: Annotated[
        bool, typer.Option("--compile", help="Compile the plan's JAX cells for the target (TPU or GPU).")
    ] = False,
    set_: Set = None,
    readiness: Written = None,
    outputs: Outputs = Path("outputs"),
) -> None:
    """Show what can run here.

    Lists devices, packages and model: what is ready, what will be skipped and why, and what fits a target.
    """
    from scorematrix.matrix import compile_cells, load_params, preflight_readiness, read_assignments, unfit_cells
    from scorematrix.readiness import load_written
    from scorematrix.report.formatting import TextTable
    from scorematrix.report.preflight import readiness_table
    from scorematrix.report.terminal import compiled_line, estimate_lines, terminal_table
    from scorematrix.results import CompiledCell, RecordStore

    def on_cell(cell: CompiledCell) -> None:
        for line in (compiled_line(cell), *estimate_lines(cell)):
            out.print(escape(line))

    checked, store = load_params(params, read_assignments(set_ or [])) if params else None, RecordStore(outputs)
    if compile_ and (checked is None or target is None):
        raise ValueError("--compile needs PARAMS and --target, e.g. params/contract.yaml --target tpu-v6e-1")
    probed = preflight_readiness(checked, target, store.read() | (load_written(readiness) if readiness else {}))
    caption, columns, rows, _ = readiness_table(probed)
    out.print(terminal_table(TextTable(caption, columns[:4], [row[:4] for row in rows], range(4))))
    for state in probed.skipped:
        out.print(f"{state.target}, {state.backend}: {escape(state.evidence)}. Next: {escape(state.next_step or '')}")
    for line in unfit_cells(checked) if checked is not None else []:
        out.print(f"DOES NOT FIT (estimate): {escape(line)}")
    if compile_ and checked is not None and target is not None:
        record = compile_cells(checked, target, on_cell)
        out.print(f"wrote {store.keep_compiled(record)}")
        if all(cell.status == "not_compiled" for cell in record.cells):
            raise typer.Exit(NOTHING_RAN)
    elif len(probed.skipped) == len(probed.states):
        raise typer.Exit(NOTHING_RAN)


@app.command()
def provision(
    plan: Annotated[Path, typer.Argument(help="Provision plan, e.g. params/provision/gpu_g4.yaml.")],
    execute: Annotated[bool, typer.Option("--execute", help="Run the commands. Default: only show them.")] = False,
    outputs: Outputs = Path("outputs"),
) -> None:
    """Request a cloud machine, zone by zone.

    Records every attempt under outputs/readiness.
    """
    from scorematrix.readiness import dry_run, load_plan
    from scorematrix.readiness import provision as try_zones
    from scorematrix.report.terminal import attempt_line
    from scorematrix.results import Attempt, RecordStore

    checked, store = load_plan(plan), RecordStore(outputs)
    store.read()  # a damaged record ends the command before anything is requested
    if not execute:
        for command in dry_run(checked):
            out.print(escape(command))
        out.print("nothing was run; --execute tries these in order until one machine runs")
        return

    def on_attempt(attempt: Attempt) -> None:
        store.keep(checked.target, attempt)
        out.print(escape(attempt_line(attempt)))

    if (machine := try_zones(checked, on_attempt)) is None:
        out.print(f"{checked.target}: no machine; see {store.folder / checked.target}.json")
        raise typer.Exit(NOTHING_RAN)
    teardown = escape(machine.teardown or "")
    out.print(f"{checked.target} runs in {machine.zone} as {machine.name}; delete it with: {teardown}")
