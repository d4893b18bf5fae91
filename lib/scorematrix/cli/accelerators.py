"""The command that tests and measures an accelerator."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from scorematrix.cli.app import GATE_FAILED, Outputs, app, out

MOST_FAILURES = 10


@app.command()
def accelerator(
    target: Annotated[str | None, typer.Option(help="Target of this machine. Default: detected.")] = None,
    outputs: Outputs = Path("outputs"),
) -> None:
    """Test and measure this GPU or TPU.

    Device tests, contract workload, report: at most 15 minutes. Rerun to continue after a failure.
    """
    from scorematrix.accelerator import find_target, plan_stages, read_tests, run_stages
    from scorematrix.compare import Comparison
    from scorematrix.readiness import probe_machine
    from scorematrix.readiness import target as known
    from scorematrix.report.terminal import closing_lines, figure_lines
    from scorematrix.results import read_document

    here = known(target) if target else find_target(probe_machine())
    run_id = f"first-{here.name}"
    folder, run = outputs.resolve() / "accelerator" / here.name, outputs.resolve() / "runs" / run_id
    out.print(f"{here.label}: results in {folder}")
    records = []
    for record, kept in run_stages(
        plan_stages(here, folder, run_id), folder, lambda stage: out.print(f"{stage.name} ...")
    ):
        records.append(record)
        how = "from an earlier call" if kept else f"{record.seconds:.0f} s"
        out.print(f"{record.name}: {record.status}, {how}")
        if record.status != "ok":
            last = [line for line in (folder / f"{record.name}.log").read_text(errors="replace").splitlines() if line]
            out.print(escape("\n".join(f"  {line[:160]}" for line in last[-3:])))
    out.print(f"\n{here.label}")
    if (tested := read_tests(folder / "tests.xml")) is not None:
        out.print("device tests: " + ", ".join(f"{n} {how}" for how, n in tested.counts.items() if n))
        for name in tested.failed[:MOST_FAILURES]:
            out.print(escape(f"  failed: {name}"))
        for engine, (distance, allowed) in sorted(tested.distances.items()):
            out.print(f"  {engine:34} largest error {distance:.1e}, tolerance {allowed:.0e}")
    if (run / "comparison.json").is_file():
        comparison = read_document(run / "comparison.json", Comparison)
        for line in (*figure_lines(comparison), *closing_lines(comparison)):
            out.print(escape(line))
    if any(record.status != "ok" for record in records):
        raise typer.Exit(GATE_FAILED)
