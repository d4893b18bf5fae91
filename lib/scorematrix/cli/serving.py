"""Commands about live servers."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from scorematrix.cli.app import NOTHING_RAN, AsJson, DType, Mesh, Model, app, device_kind, number_format, out

VOCABULARY = 32_000
"""Nearly every model of today has as many token ids; the first hundred hold the special ones of many."""
N_QUERIES = 16


@app.command()
def serve(
    backend: Annotated[str, typer.Option(help="A backend, or noop: answers at once, to try the server itself.")],
    view: Annotated[str | None, typer.Option(help="By default best_native, or the first that it has.")] = None,
    model: Model = "smollm2-135m",
    device: Annotated[str, typer.Option(help="auto, cpu, gpu or tpu.")] = "auto",
    dtype: DType = "auto",
    mesh: Mesh = None,
    host: Annotated[str, typer.Option(help="Only this machine reaches the default.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="0 takes a free one.", min=0, max=65535)] = 8000,
    max_waiting: Annotated[int, typer.Option(help="Requests in line; the next is told to come back.")] = 64,
    max_items: Annotated[int, typer.Option(help="Items of one request.")] = 10_000,
    max_batch_items: Annotated[int, typer.Option(help="Requests of one query are joined up to so many.")] = 512,
    max_body_mib: Annotated[int, typer.Option(help="Longest body of a request.")] = 16,
    reuse_prefix: Annotated[int, typer.Option(help="Queries kept between requests; best_native.", min=0)] = 0,
) -> None:
    """Any backend behind /v1/score, with /health and /metrics, until it is told to stop."""
    from scorematrix.measure.process import wait_passively
    from scorematrix.models import load_model
    from scorematrix.scoring import backend_entry, load_backend
    from scorematrix.serving import Limits, NoopBackend, ScoringApp
    from scorematrix.serving import serve as serve_app

    wait_passively()  # a machine that serves has other work too: spinning threads would slow down for all of it
    limits = Limits(max_body_mib * 2**20, max_items, max_waiting, max_batch_items)
    if backend != "noop":
        view = view or backend_entry(backend).default_view
        backend_entry(backend, view)
    loaded = load_model(model)
    if backend == "noop":
        scorer = NoopBackend()
    else:
        scorer = load_backend(
            backend,
            view=view,
            model=loaded,
            device=device_kind(device),
            dtype=number_format(dtype),
            mesh=mesh,
            reuse_prefix=reuse_prefix,
        )
    info = scorer.info
    what = f"{info.backend} {info.view} on {info.device}, {info.dtype}, {loaded.name}"
    serve_app(
        ScoringApp(scorer, loaded, limits),
        host=host,
        port=port,
        on_ready=lambda address: out.print(f"{what}: {address}/v1/score"),
    )
    out.print("stopped")


@app.command()
def load(
    url: Annotated[str, typer.Argument(help="The server's address, http://HOST:PORT.")],
    server: Annotated[str, typer.Option(help="sglang, sglang-jax or vllm.")] = "sglang",
    served_model: Annotated[str, typer.Option(help="The model's name there.")] = "default",
    device: Annotated[str, typer.Option(help="What it runs on, in words.")] = "server",
    model: Annotated[str | None, typer.Option(help="Whose vocabulary token ids are drawn from; see `models`.")] = None,
    vocab_size: Annotated[int | None, typer.Option(help="Or ids below this.", min=32)] = None,
    query_tokens: Annotated[int, typer.Option(min=1)] = 512,
    items: Annotated[int, typer.Option(help="Of a request.", min=1)] = 10,
    item_tokens: Annotated[int, typer.Option(min=1)] = 20,
    labels: Annotated[str | None, typer.Option(help="Token ids, 9454,2753 say; by default two that both hold.")] = None,
    concurrency: Annotated[str, typer.Option(help="Closed loop: so many at once, in turn; or none.")] = "1,2,4,8",
    rates: Annotated[str, typer.Option(help="Open loop: requests/s, 5,10 say; auto searches; none.")] = "auto",
    objective_ms: Annotated[float | None, typer.Option(help="Latency that 95 % are to keep.")] = None,
    seconds: Annotated[float, typer.Option(help="Of each point, in 6 windows.")] = 12.0,
    warmup: Annotated[float, typer.Option(help="Seconds before each point that count for nothing.")] = 2.0,
    max_in_flight: Annotated[int, typer.Option(help="Open loop: on their way at once, at most.", min=1)] = 512,
    timeout: Annotated[float, typer.Option(help="Seconds that a request may take.")] = 120.0,
    bad_every: Annotated[int, typer.Option(help="Every Nth request is malformed; 0: none.", min=0)] = 0,
    mlperf: Annotated[bool, typer.Option(help="MLPerf LoadGen's scenarios too, as a second opinion.")] = False,
    mlperf_seconds: Annotated[float, typer.Option(help="Of each scenario; its rules ask for 60.")] = 60.0,
    seed: Annotated[int, typer.Option(help="Of the token ids and of the arrivals.", min=0)] = 0,
    to: Annotated[Path | None, typer.Option("--out", help="Write the record here (JSON).")] = None,
    as_json: AsJson = False,
) -> None:
    """A live server under load: throughput, latency from the intended start, the rate that it sustains.

    Closed loop and open loop; every answer is checked, every request accounted for. Exit code 4: no sound answer.
    """
    from scorematrix.cli.load_tables import load_table, mlperf_table, progress_line
    from scorematrix.compare.load import load_sentence
    from scorematrix.load import Plan, measure_load
    from scorematrix.measure import describe_environment
    from scorematrix.results import write_document

    closed = _numbers("--concurrency", concurrency, int)
    opened = None if rates.strip() == "auto" else _numbers("--rates", rates, float)
    if not closed and opened is None:
        raise ValueError("--rates='auto' starts from the sweep's throughput; give --concurrency, or rates in numbers")
    if to is not None and to.exists() and not to.is_file():
        raise ValueError(f"--out={str(to)!r} is no file; name one")
    workload = _workload(model, vocab_size, query_tokens, items, item_tokens, labels, seed)
    record = measure_load(
        url,
        workload,
        server=server,
        model=served_model,
        device=device,
        concurrency=closed,
        rates=opened,
        plan=Plan(warmup, seconds),
        objective_seconds=None if objective_ms is None else objective_ms / 1e3,
        max_in_flight=max_in_flight,
        timeout_seconds=timeout,
        bad_every=bad_every,
        mlperf_seconds=mlperf_seconds if mlperf else None,
        seed=seed,
        environment=describe_environment(),
        on_point=lambda point: None if as_json else out.print(escape(progress_line(point))),
    )
    if to is not None:
        write_document(to, record)
    if as_json:
        print(record.model_dump_json())  # in one line: it holds every latency
    else:
        out.print(load_table(record), *([mlperf_table(record)] if record.mlperf else []))
        out.print(escape(load_sentence(record)))
    if not any(point.totals.answered for point in record.points):
        raise typer.Exit(NOTHING_RAN)


def _numbers(name: str, text: str, kind: type) -> list:
    """`1,2,4` as numbers above 0; `none` as no numbers."""
    if text.strip() in ("none", ""):
        return []
    try:
        numbers = [kind(part) for part in text.split(",")]
    except ValueError:
        raise ValueError(f"{name}={text!r} must be numbers with commas between, 1,2,4 say, or none") from None
    if wrong := [number for number in numbers if not 0 < number < 1e6]:
        raise ValueError(f"{name}={text!r} holds {wrong[0]}, which is not above 0 and below a million")
    return numbers


def _workload(
    model: str | None,
    vocab_size: int | None,
    query_tokens: int,
    items: int,
    item_tokens: int,
    labels: str | None,
    seed: int,
):
    """Requests of one shape, of token ids that the served model is thought to have."""
    from scorematrix.models.catalogue import read_description
    from scorematrix.workload import CONTRACT_LABEL_IDS, canonical_workload

    if model is not None and vocab_size is not None:
        raise ValueError(f"--model={model!r} and --vocab-size={vocab_size}: give one of them")
    if model is not None:
        described = read_description(model)
        size = described.config.vocab_size
        excluded = described.tokenizer.special_ids if described.tokenizer else ()
    else:
        size = vocab_size or VOCABULARY
        excluded = range(min(100, size // 4))
    fitting = CONTRACT_LABEL_IDS if max(CONTRACT_LABEL_IDS) < size else (size - 2, size - 1)
    return canonical_workload(
        vocab_size=size,
        query_tokens=query_tokens,
        n_items=items,
        item_tokens=item_tokens,
        label_ids=_numbers("--labels", labels, int) if labels is not None else fitting,
        n_queries=N_QUERIES,
        seed=seed,
        excluded_ids=excluded,
    )
