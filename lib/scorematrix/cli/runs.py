"""Commands that measure, judge and check runs."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape

from scorematrix.cli.app import GATE_FAILED, NOT_COPIED, NOTHING_RAN, Outputs, Set, Written, app, out
from scorematrix.wings import needed_wing

if TYPE_CHECKING:
    from scorematrix.results import PlannedRound, RunStore

NOTEBOOK = "02_score_matrix"


@app.command()
def run(
    params: Annotated[Path, typer.Argument(help="Params file, e.g. params/quick.yaml.")],
    run_id: Annotated[
        str | None, typer.Option(help="Name of the run folder. Default: the params' name and checksum.")
    ] = None,
    rounds: Annotated[int | None, typer.Option(help="Number of confirmation rounds. Default: the file's.")] = None,
    until_decided: Annotated[bool, typer.Option(help="Double the rounds until every verdict is settled.")] = False,
    max_rounds: Annotated[
        int | None, typer.Option(help="Limit of --until-decided. Default: 8 times the rounds.")
    ] = None,
    only: Annotated[list[str] | None, typer.Option(help="Run only this backend. Repeatable.")] = None,
    set_: Set = None,
    retry_failed: Annotated[bool, typer.Option(help="Measure failed rounds again.")] = False,
    prepare_only: Annotated[
        bool, typer.Option(help="Write the run folder and print a papermill command per round; measure nothing.")
    ] = False,
    readiness: Written = None,
    on: Annotated[str | None, typer.Option(help="Measure on a Ray cluster: ray, or ray://HOST:10001.")] = None,
    mirror: Annotated[
        str | None, typer.Option(help="Copy every finished round to this address (gs://, s3://).")
    ] = None,
    with_report: Annotated[bool, typer.Option("--report", help="Write the report at the end.")] = False,
    outputs: Outputs = Path("outputs"),
) -> None:
    """Measure a plan. The same command again continues an unfinished run."""
    from scorematrix.matrix import Choice, load_params, prepare_here, prepare_run, read_assignments, run_folder
    from scorematrix.readiness import load_written
    from scorematrix.report.progress import RunProgress
    from scorematrix.results import Mirror, RecordStore, RunStore
    from scorematrix.results.schema import MOST_ROUNDS, UNTIL_DECIDED_TIMES

    overrides = read_assignments(set_ or []) | ({"rounds": rounds} if rounds is not None else {})
    checked = load_params(params, overrides)
    if until_decided or max_rounds is not None:
        most = max_rounds or checked.max_rounds or min(MOST_ROUNDS, UNTIL_DECIDED_TIMES * checked.rounds)
        checked = load_params(params, overrides | {"max_rounds": most})
    backends = [choice.backend for choice in checked.backends]
    if unknown := [name for name in only or [] if name not in backends]:
        raise ValueError(f"--only={unknown[0]!r} is not among this run's backends; they are {', '.join(backends)}")
    written = load_written(readiness) if readiness else None
    store = RunStore(run_folder(outputs, run_id or checked.default_run_id))
    if prepare_only:
        if on or mirror or with_report:
            raise ValueError("--prepare-only takes no --on, --mirror or --report: nothing is measured")
        _print_rounds(store, prepare_here(checked, store, only=only, records=RecordStore(outputs), written=written))
        return
    copy = Mirror(mirror) if mirror else None
    with _filling(on) as fill:
        if copy is not None and (came := copy.pull(store.folder)):
            out.print(f"copied {came} files from {copy}")
        prepare_run(checked, store)
        out.print(f"run {store.folder}")

        def on_progress(event: Any) -> None:
            progress(event)
            if copy is not None and event.state == "end":
                failed_before = copy.trouble is not None
                copy.copy(store.folder)
                if copy.trouble and not failed_before:
                    out.print(escape(f"not copied to {copy}: {copy.trouble}; tried again after each round"))

        with RunProgress(out, store) as progress:
            fill(
                checked,
                store,
                only=only,
                retry_failed=retry_failed,
                records=RecordStore(outputs),
                written=written,
                settled=lambda: _compared(store).settled,
                chosen=lambda: {s.key: Choice(s.best_chunk, s.waiting, s.attention) for s in _compared(store).sides},
                on_progress=on_progress,
            )
    comparison = _compared(store)
    if with_report:
        _write_report(store, comparison)
    if copy is not None:
        copy.copy(store.folder, tries=3)
    try:
        _conclude(comparison)
    finally:
        if copy is not None and copy.trouble:
            out.print(escape(f"not copied to {copy}: {copy.trouble}; the same command copies {store.folder}"))
    if copy is not None and copy.trouble:
        raise typer.Exit(NOT_COPIED)


def _print_rounds(store: RunStore, rounds: Sequence[PlannedRound]) -> None:
    """Print a papermill command per round, in order of execution."""
    from scorematrix.notebooks import papermill_command

    for planned in rounds:
        parameters = {"run_dir": str(store.folder.resolve())} | planned.model_dump()
        typer.echo(shlex.join(papermill_command(NOTEBOOK, store.notebook_path(planned.name), parameters)))


@app.command()
def report(
    runs: Annotated[str, typer.Argument(metavar="RUN", help="Folder or id of a run.")],
    merge: Annotated[list[str] | None, typer.Option(help="First add the rounds of this run. Repeatable.")] = None,
    compare: Annotated[
        str | None, typer.Option(metavar="OLD", help="Show what changed since this run of the same plan.")
    ] = None,
    outputs: Outputs = Path("outputs"),
) -> None:
    """Judge a run and write its report.

    Writes comparison.json, report.html and report.md. With --compare it shows what changed since an earlier run.
    """
    from scorematrix.results import merge_runs

    store = _opened(runs, outputs)
    if compare is not None:
        if merge:
            raise ValueError(f"--compare={compare!r} takes no --merge; merge first, then compare")
        return _write_change(_opened(compare, outputs), store)
    if merge:
        out.print(escape("\n".join(merge_runs(store, [_opened(other, outputs) for other in merge]))))
    comparison = _compared(store)
    _write_report(store, comparison)
    _conclude(comparison)


@app.command()
def validate(
    paths: Annotated[list[Path], typer.Argument(help="Workload, round, run folder or params file.")],
    signers: Annotated[
        Path | None, typer.Option(help="Require signatures by these keys: a file of ssh's ALLOWED SIGNERS.")
    ] = None,
) -> None:
    """Check workloads, rounds, runs and params.

    A checksum detects damage. Only a signature (see `sign`) detects a forged run.
    """
    from scorematrix.matrix import validate_path
    from scorematrix.report.check import check_summaries
    from scorematrix.results import RunStore
    from scorematrix.results.signature import signer_of

    for path in paths:
        found = validate_path(path)
        if path.is_dir():
            check_summaries(RunStore(path))
        signer = signer_of(path, signers) if path.is_dir() else None
        if signers is not None and signer is None:
            raise ValueError(f"{path} is not signed; sign it with `scorematrix sign`, or leave out --signers")
        out.print(f"{path}: {found}{f', signed by {signer}' if signer else ''}")


@app.command()
def sign(
    runs: Annotated[str, typer.Argument(metavar="RUN", help="Folder or id of a run.")],
    key: Annotated[Path, typer.Option(help="Private SSH key, or a public one whose agent is running.")],
    outputs: Outputs = Path("outputs"),
) -> None:
    """Sign a run with an SSH key.

    `validate --signers FILE` then verifies that none of its rounds was changed, added or removed since.
    """
    from scorematrix.results.signature import sign_run

    store = _opened(runs, outputs)
    out.print(f"signed {sign_run(store.folder, key)} files of {store.folder}")


@app.command()
def bundle(
    path: Annotated[Path, typer.Argument(help="Archive to write.")] = Path("scorematrix.tar.gz"),
    full: Annotated[bool, typer.Option("--full/--minimal", help="Include tests and recorded runs, or not.")] = False,
    outputs: Outputs = Path("outputs"),
) -> None:
    """Pack an archive for another machine.

    The archive is reproducible and has checksums.
    """
    from scorematrix.bundle import write_bundle

    if not path.absolute().parent.is_dir():
        raise ValueError(f"path={str(path)!r}: {path.parent} is not a folder; make it first, or name another")
    made = write_bundle(path, full=full, outputs=outputs)
    out.print(f"wrote {made.path}: {made.n_files} files, sha256 {made.sha256}")


@contextmanager
def _filling(on: str | None) -> Iterator[Callable[..., None]]:
    """Yield the function that fills a run, here or on a cluster. Connect to the cluster before writing anything."""
    if on is None:
        from scorematrix.matrix import fill_run

        yield fill_run
        return
    try:
        cluster = needed_wing("cluster", f"--on={on!r}")
    except ModuleNotFoundError as error:
        if error.name != "ray":
            raise
        raise ValueError(f"--on={on!r} needs Ray: `make setup EXTRAS=cpu,cluster`, or pip install ray") from None
    with cluster.connected(on):
        yield cluster.fill_on_cluster


def _opened(run: str, outputs: Path) -> Any:
    """Open a run by folder, id or address. A run at an address is first copied to `outputs/runs`."""
    from scorematrix.matrix import run_folder
    from scorematrix.results import Mirror, find_run, is_address

    if is_address(run):
        name = run.rstrip("/").rsplit("/", 1)[-1]
        Mirror(run).pull(run_folder(outputs, name))
        run = name
    return find_run(run, outputs)


def _write_report(store: Any, comparison: Any) -> None:
    from scorematrix.report import write_report

    for path in write_report(store, comparison):
        out.print(f"wrote {path}")


def _write_change(old: Any, new: Any) -> None:
    from scorematrix.report.run_diff import change_lines, open_change, write_change

    change = open_change(old, new)
    for line in change_lines(change):
        out.print(escape(line))
    out.print(f"wrote {write_change(change, new)}")
    if any(side.change.state == "invalid" for side in change.sides):
        raise typer.Exit(GATE_FAILED)


def _conclude(comparison: Any) -> None:
    """Print a run's verdicts and every skip notice, and set the exit code."""
    from scorematrix.report.terminal import closing_lines

    for line in closing_lines(comparison):
        out.print(escape(line))
    if all(side.state == "skipped" for side in comparison.sides):
        raise typer.Exit(NOTHING_RAN)
    if any(contrast.verdict == "invalid" for contrast in comparison.contrasts):
        raise typer.Exit(GATE_FAILED)


def _compared(store: Any) -> Any:
    from scorematrix.compare import compare_run

    return compare_run(store.manifest(), store.workload(), store.readiness(), store.rounds())
