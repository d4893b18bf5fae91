"""`scorematrix`: a face over the library. Exit codes: 0 done, skips included; 1 the report could not be made;
2 bad input; 3 a gate failed; 4 nothing could run."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import typer
import yaml
from rich.console import Console
from rich.markup import escape
from rich.table import Table

BAD_INPUT, GATE_FAILED, NOTHING_RAN = 2, 3, 4

app = typer.Typer(
    help="Compare JAX and PyTorch on LLM multi-item scoring.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
out = Console(highlight=False, soft_wrap=True)

Outputs = Annotated[Path, typer.Option(help="Folder that holds the runs.")]


@app.command()
def run(
    params: Annotated[Path, typer.Argument(help="A params file, params/quick.yaml say.")],
    run_id: Annotated[str | None, typer.Option(help="Name of the run folder; by default from name and hash.")] = None,
    rounds: Annotated[int | None, typer.Option(help="Confirmation rounds, instead of the file's.")] = None,
    only: Annotated[list[str] | None, typer.Option(help="Run only this backend; repeatable.")] = None,
    set_: Annotated[list[str] | None, typer.Option("--set", help="key=value over the file's; repeatable.")] = None,
    retry_failed: Annotated[bool, typer.Option(help="Measure rounds that failed again.")] = False,
    with_report: Annotated[bool, typer.Option("--report", help="Write the report when the rounds are done.")] = False,
    outputs: Outputs = Path("outputs"),
) -> None:
    """Execute the plan by papermill; the same command again continues what is unfinished."""
    from scorematrix.matrix import fill_run, load_params, prepare_run, run_folder
    from scorematrix.report.progress import RunProgress
    from scorematrix.results import RunStore
    from scorematrix.scoring.registry import BACKENDS

    overrides = _overrides(set_ or []) | ({"rounds": rounds} if rounds is not None else {})
    checked = load_params(params, overrides)
    if unknown := [name for name in only or [] if name not in BACKENDS]:
        raise ValueError(f"--only={unknown[0]!r} is no backend; known: {', '.join(BACKENDS)}")
    store = RunStore(run_folder(outputs, run_id or checked.default_run_id))
    prepare_run(checked, store)
    out.print(f"run {store.folder}")
    with RunProgress(out) as progress:
        fill_run(checked, store, only=only, retry_failed=retry_failed, on_progress=progress)
    if with_report:
        _write_report(store)
    _conclude(store)


@app.command()
def report(
    runs: Annotated[str, typer.Argument(metavar="RUN", help="A run's folder or id.")],
    outputs: Outputs = Path("outputs"),
) -> None:
    """Compare a run and write comparison.json, report.html and report.md."""
    from scorematrix.results import open_run

    store = open_run(runs, outputs)
    _write_report(store)
    _conclude(store)


@app.command()
def preflight(
    params: Annotated[Path | None, typer.Argument(help="A params file; without one, every known target.")] = None,
    target: Annotated[str | None, typer.Option(help="Only this target.")] = None,
) -> None:
    """Devices, packages, model: what is ready, what will be skipped and why."""
    from scorematrix.matrix import load_params, preflight_readiness
    from scorematrix.report.terminal import readiness_table

    readiness = preflight_readiness(load_params(params) if params else None, target)
    out.print(readiness_table(readiness))
    for state in readiness.skipped:
        out.print(f"{state.target}, {state.backend}: {escape(state.evidence)}. Next: {escape(state.next_step or '')}")
    if len(readiness.skipped) == len(readiness.states):
        raise typer.Exit(NOTHING_RAN)


@app.command()
def score(
    query: Annotated[str, typer.Option(help="The query's text.")],
    item: Annotated[list[str], typer.Option(help="An item's text; repeatable.")],
    label: Annotated[list[str], typer.Option(help="A label that is one token; repeatable.")],
    model: Annotated[str, typer.Option(help="See `scorematrix models`.")] = "smollm2-135m",
    backend: Annotated[str, typer.Option()] = "jax",
    view: Annotated[str, typer.Option()] = "portable",
    dtype: Annotated[str, typer.Option(help="auto, float32 or bfloat16.")] = "auto",
    softmax: Annotated[bool, typer.Option(help="Over the labels; else over the whole vocabulary.")] = True,
    as_json: Annotated[bool, typer.Option("--json", help="Machine-readable.")] = False,
) -> None:
    """Score a query's items with one backend. Query and items are tokenized apart, nothing is put between."""
    from scorematrix.models import load_model
    from scorematrix.scoring import backend_entry, load_backend
    from scorematrix.workload import score_request_from_text

    backend_entry(backend, view)
    loaded = load_model(model)
    request = score_request_from_text(loaded.tokenizer, query, item, label, apply_softmax=softmax)
    scorer = load_backend(backend, view=view, model=loaded, dtype=dtype)
    scores = scorer.score(request)
    if as_json:
        rows = [dict(zip(label, map(float, row))) for row in scores]
        out.print_json(
            data={"model": model, "backend": backend, "view": view, "dtype": scorer.info.dtype, "scores": rows}
        )
        return
    table = Table("item", *(f"P({name!r})" for name in label))
    for text, row in zip(item, scores):
        table.add_row(escape(repr(text)), *(f"{p:.4f}" for p in row))
    out.print(table)
    info = scorer.info
    why = info.settings.get("dtype_choice")
    out.print(f"{backend}, {view} view, {info.device}, {info.dtype}" + (f" ({why})" if why else ""))


@app.command()
def audit(
    backend: Annotated[str, typer.Option(help="The backend to ask.")],
    view: Annotated[str | None, typer.Option(help="One view; by default each that the backend serves.")] = None,
    model: Annotated[str, typer.Option(help="See `scorematrix models`.")] = "smollm2-135m",
    device: Annotated[str, typer.Option(help="auto, cpu, gpu or tpu.")] = "auto",
    dtype: Annotated[str, typer.Option(help="auto, float32 or bfloat16.")] = "auto",
    seed: Annotated[int, typer.Option(help="Of the token ids that are asked.")] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="Machine-readable.")] = False,
) -> None:
    """Contract, parity and isolation of one backend, with the evidence; exit code 3 where it is unsound."""
    from scorematrix.audit import audit_backend
    from scorematrix.models import load_model
    from scorematrix.report.terminal import audit_sentence, audit_table
    from scorematrix.scoring import backend_entry, load_backend

    entry = backend_entry(backend, view)
    loaded = load_model(model)
    reports = []
    for one in [view] if view else entry.views:
        scorer = load_backend(backend, view=one, model=loaded, device=device, dtype=dtype)
        reports.append(audit_backend(scorer, loaded, seed=seed))
    if as_json:
        out.print_json(data=[report.model_dump(mode="json") for report in reports])
    else:
        for report in reports:
            out.print(audit_table(report))
        for report in reports:
            out.print(escape(audit_sentence(report)))
    if any(report.verdict == "unsound" for report in reports):
        raise typer.Exit(GATE_FAILED)


@app.command()
def models(
    action: Annotated[str | None, typer.Argument(help="`fetch` brings a model to this machine.")] = None,
    name: Annotated[str | None, typer.Argument(help="The model to fetch.")] = None,
) -> None:
    """What can be scored with, and from where."""
    from scorematrix.models import fetch, list_models
    from scorematrix.report.terminal import models_table

    if action is None:
        out.print(models_table(list_models()))
    elif action == "fetch" and name:
        out.print(f"{name}: {fetch(name)}")
    else:
        raise ValueError(
            f"models {action!r} {name or ''}: write `scorematrix models` or `scorematrix models fetch NAME`"
        )


@app.command()
def validate(
    paths: Annotated[list[Path], typer.Argument(help="Workloads, rounds, run folders, params files.")],
) -> None:
    """Is this a sound workload, round, run or params file?"""
    from scorematrix.matrix import validate_path

    for path in paths:
        out.print(f"{path}: {validate_path(path)}")


def main() -> None:
    """Entry point: bad input becomes one line and exit code 2, a notebook that failed one line and 1."""
    from scorematrix.notebooks import NotebookFailed

    try:
        code = app(standalone_mode=False)
    except typer.Exit as end:
        code = end.exit_code
    except typer.TyperException as error:  # usage: unknown option, missing argument
        error.show()
        code = BAD_INPUT
    except (ValueError, ModuleNotFoundError) as error:
        print(f"scorematrix: {' '.join(str(error).split())}", file=sys.stderr)
        code = BAD_INPUT
    except NotebookFailed as error:  # the report's: a round's is a result
        print(f"scorematrix: {error}", file=sys.stderr)
        code = 1
    except KeyboardInterrupt:
        print("scorematrix: interrupted; the same command continues", file=sys.stderr)
        code = 130
    sys.exit(code if isinstance(code, int) else 0)


def _write_report(store: Any) -> None:
    from scorematrix.report import write_report

    for path in write_report(store):
        out.print(f"wrote {path}")


def _conclude(store: Any) -> None:
    """The last lines of a command that concerns a run: verdicts, and every skip notice."""
    from scorematrix.compare import compare_run
    from scorematrix.report.terminal import closing_lines

    comparison = compare_run(store.manifest(), store.workload(), store.readiness(), store.rounds())
    for line in closing_lines(comparison):
        out.print(escape(line))
    if all(side.state == "skipped" for side in comparison.sides):
        raise typer.Exit(NOTHING_RAN)
    if any(contrast.verdict == "invalid" for contrast in comparison.contrasts):
        raise typer.Exit(GATE_FAILED)


def _overrides(assignments: list[str]) -> dict[str, Any]:
    values = {}
    for assignment in assignments:
        key, equals, value = assignment.partition("=")
        if not key or not equals:
            raise ValueError(f"--set={assignment!r} must be key=value, rounds=5 say")
        values[key] = yaml.safe_load(value)
    return values
