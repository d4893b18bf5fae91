"""Commands that score with one backend, and list models and backends."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.markup import escape
from rich.table import Table

from scorematrix.cli.app import AsJson, DType, Mesh, Model, app, out


@app.command()
def score(
    query: Annotated[str, typer.Option(help="Text of the query.")],
    item: Annotated[list[str], typer.Option(help="Text of an item. Repeatable.")],
    label: Annotated[list[str], typer.Option(help="Label of one token. Repeatable.")],
    model: Model = "smollm2-135m",
    backend: Annotated[str, typer.Option(help="Backend name, or your scorer as module:attribute.")] = "jax",
    view: Annotated[str | None, typer.Option(help="View. Default: portable, or the backend's only one.")] = None,
    dtype: DType = "auto",
    mesh: Mesh = None,
    softmax: Annotated[bool, typer.Option(help="Softmax over the labels, or over the vocabulary.")] = True,
    as_json: AsJson = False,
) -> None:
    """Score items with one backend. Query and items are tokenized separately, with nothing in between."""
    from scorematrix.matrix.memory import refuse_oversized
    from scorematrix.models import load_model
    from scorematrix.scoring import backend_entry, finite_scores, load_backend
    from scorematrix.workload import score_request_from_text

    backend_entry(backend, view)
    loaded = load_model(model)
    request = score_request_from_text(loaded.tokenizer, query, item, label, apply_softmax=softmax)
    longest = len(request.query_ids) + max(map(len, request.items_ids))
    if longest > (most := loaded.config.max_positions or longest):
        raise ValueError(f"query and longest item are {longest} tokens, {model} has {most} positions; shorten them")
    scorer = load_backend(backend, view=view, model=loaded, dtype=dtype, mesh=mesh)
    if scorer.info.device == "cpu" and scorer.info.framework in ("jax", "pytorch"):
        refuse_oversized(loaded.config, scorer.info.view, scorer.info.dtype, scorer.info.framework, request)
    scores, view = finite_scores(scorer.score(request), backend), scorer.info.view
    if as_json:
        rows = [dict(zip(label, map(float, row), strict=True)) for row in scores]
        out.print_json(
            data={"model": model, "backend": backend, "view": view, "dtype": scorer.info.dtype, "scores": rows}
        )
        return
    table = Table("item", *(f"P({name!r})" for name in label))
    for text, row in zip(item, scores, strict=True):
        table.add_row(escape(repr(text)), *(f"{p:.4f}" for p in row))
    out.print(table)
    why = scorer.info.settings.get("dtype_choice")
    where = scorer.info.device + (f", mesh {spread}" if (spread := scorer.info.settings.get("mesh")) else "")
    out.print(f"{backend}, {view} view, {where}, {scorer.info.dtype}" + (f" ({why})" if why else ""))


@app.command()
def models(
    action: Annotated[str | None, typer.Argument(help="`fetch` downloads a model.")] = None,
    name: Annotated[str | None, typer.Argument(help="Model to fetch.")] = None,
) -> None:
    """List models and backends.

    Shows what is missing to use them here.
    """
    from scorematrix.models import fetch, list_models
    from scorematrix.scoring import list_backends

    if action is None:
        table = Table("name", "origin", "params", "licence", "here")
        for row in list_models():
            here = "yes" if row.present else "no"
            table.add_row(row.name, escape(row.origin), row.params, row.license or "", here)
        out.print(table)
        table = Table("backend", "views", "origin", "here")
        for row in list_backends():
            here = "yes" if row.lacks is None else f"no: {row.lacks} is missing"
            table.add_row(row.name, ", ".join(row.views), escape(row.origin), escape(here))
        out.print(table)
        out.print("To use your scorer: --backend module:attribute, see README")
    elif action == "fetch" and name:
        out.print(f"{name}: {fetch(name)}")
    else:
        raise ValueError(f"models {action!r} {name or ''}: write `scorematrix models` or `... models fetch NAME`")
