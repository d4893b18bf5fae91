"""Commands about live servers. Importing this module registers `serve` and `load`."""

from __future__ import annotations

import os
import sys
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from scorematrix.cli.app import NOTHING_RAN, AsJson, Device, DType, Mesh, Model, app, out
from scorematrix.servers import check_packages

VOCABULARY = 32_000
"""Nearly every current model has at least so many token ids. The first hundred often include special tokens."""
N_QUERIES = 16


@app.command()
def serve(
    backend: Annotated[str, typer.Option(help="Backend to serve; noop returns constants at once.")],
    view: Annotated[str | None, typer.Option(help="View. Default: best_native, or the backend's first.")] = None,
    model: Model = "smollm2-135m",
    device: Device = "auto",
    dtype: DType = "auto",
    mesh: Mesh = None,
    host: Annotated[str, typer.Option(help="Address to listen on. Default: this machine only.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port; 0 takes a free one.", min=0, max=65535)] = 8000,
    max_waiting: Annotated[int, typer.Option(help="Longest queue; further requests get 503.")] = 64,
    max_items: Annotated[int, typer.Option(help="Most items per request.")] = 10_000,
    max_scores: Annotated[int, typer.Option(help="Most scores per request: items times labels.")] = 2**20,
    max_tokens: Annotated[int, typer.Option(help="Most tokens per request.")] = 2**18,
    max_seconds: Annotated[float, typer.Option(help="Longest time for a request; then it gets 503.")] = 300.0,
    max_memory_gib: Annotated[
        float | None, typer.Option(help="Working memory of a call. Default: half of what is free.")
    ] = None,
    max_batch_items: Annotated[int, typer.Option(help="Most items in a call of the backend.")] = 512,
    max_programs: Annotated[int, typer.Option(help="Most compiled programs kept (JAX: one per shape).")] = 64,
    max_body_mib: Annotated[int, typer.Option(help="Largest request body, in MiB.")] = 8,
    body_seconds: Annotated[float, typer.Option(help="Longest time for a request's body to arrive.")] = 10.0,
    reuse_prefix: Annotated[int, typer.Option(help="Queries kept between requests (best_native).", min=0)] = 0,
) -> None:
    """Serve a backend at /v1/score.

    /health and /metrics come with it.
    """
    check_packages()
    from scorematrix.measure.process import keep_freed_memory, wait_passively
    from scorematrix.models import load_model
    from scorematrix.scoring import backend_entry, load_backend
    from scorematrix.servers.serve import Limits, NoopBackend, ScoringApp
    from scorematrix.servers.serve import serve as serve_app

    wait_passively()  # spinning threads would slow down other work on the serving machine
    keep_freed_memory()
    limits = Limits(
        max_body_bytes=max_body_mib * 2**20,
        max_items=max_items,
        max_scores=max_scores,
        max_tokens=max_tokens,
        max_seconds=max_seconds,
        max_waiting=max_waiting,
        max_batch_items=max_batch_items,
        max_programs=max_programs,
        body_seconds=body_seconds,
        max_receiving_bytes=max(8 * max_body_mib * 2**20, Limits.max_receiving_bytes),
    )
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
            device=device,
            dtype=dtype,
            mesh=mesh,
            reuse_prefix=reuse_prefix,
        )
        limits = replace(limits, max_call_tokens=_call_tokens(loaded.config, scorer.info, limits, max_memory_gib))
    info = scorer.info
    what = f"{info.backend} {info.view} on {info.device}, {info.dtype}, {loaded.name}"
    has_ended = serve_app(
        ScoringApp(scorer, loaded, limits),
        host=host,
        port=port,
        on_ready=lambda address: out.print(f"{what}: {address}/v1/score"),
    )
    out.print("stopped")
    if not has_ended:  # Python would wait for the thread, or crash while it ends
        sys.stdout.flush()
        os._exit(0)


@app.command()
def load(
    url: Annotated[str, typer.Argument(help="Address of the server: http://HOST:PORT.")],
    server: Annotated[str, typer.Option(help="Kind of server: sglang, sglang-jax or vllm.")] = "sglang",
    served_model: Annotated[str, typer.Option(help="Model name on the server.")] = "default",
    device: Annotated[str, typer.Option(help="Description of its device, for the record.")] = "server",
    model: Annotated[str | None, typer.Option(help="Draw token ids from this model's vocabulary.")] = None,
    vocab_size: Annotated[int | None, typer.Option(help="Draw token ids below this number instead.", min=32)] = None,
    query_tokens: Annotated[int, typer.Option(min=1)] = 512,
    items: Annotated[int, typer.Option(help="Items per request.", min=1)] = 10,
    item_tokens: Annotated[int, typer.Option(min=1)] = 20,
    labels: Annotated[str | None, typer.Option(help="Label token ids, e.g. 9454,2753.")] = None,
    concurrency: Annotated[str, typer.Option(help="Closed loop: requests in flight, e.g. 1,2,4; or none.")] = "1,2,4,8",
    rates: Annotated[str, typer.Option(help="Open loop: requests/s, e.g. 5,10; auto searches; none.")] = "auto",
    objective_ms: Annotated[float | None, typer.Option(help="Latency objective for 95 % of the requests.")] = None,
    seconds: Annotated[float, typer.Option(help="Seconds per point, in 6 windows.")] = 12.0,
    warmup: Annotated[float, typer.Option(help="Untimed seconds before each point.")] = 2.0,
    max_in_flight: Annotated[int, typer.Option(help="Open loop: most requests in flight.", min=1)] = 512,
    timeout: Annotated[float, typer.Option(help="Timeout of a request, in seconds.")] = 120.0,
    bad_every: Annotated[int, typer.Option(help="Every Nth request is malformed; 0: none.", min=0)] = 0,
    seed: Annotated[int, typer.Option(help="Random seed of token ids and arrivals.", min=0)] = 0,
    to: Annotated[Path | None, typer.Option("--out", help="Write the record to this JSON file.")] = None,
    as_json: AsJson = False,
) -> None:
    """Put a live server under load.

    Measures throughput, latency from the scheduled start and the highest sustained rate, in closed and open loop.
    Checks every answer and counts every request. Exit code 4: no sound answer.
    """
    from scorematrix.measure import describe_environment
    from scorematrix.report.terminal import terminal_table
    from scorematrix.results import write_document
    from scorematrix.servers.load import Plan, measure_load
    from scorematrix.servers.load_figures import load_sentence
    from scorematrix.servers.load_rows import load_notes, load_table, point_line

    check_packages()

    closed = _numbers("--concurrency", concurrency, int)
    opened = None if rates.strip() == "auto" else _numbers("--rates", rates, float)
    if not closed and opened is None:
        raise ValueError("--rates='auto' starts from the sweep's throughput; give --concurrency, or rates as numbers")
    if to is not None and to.exists() and not to.is_file():
        raise ValueError(f"--out={str(to)!r} is not a file; name a file")
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
        seed=seed,
        environment=describe_environment(),
        on_point=lambda point: None if as_json else out.print(escape(point_line(point))),
    )
    if to is not None:
        write_document(to, record)
    if as_json:
        print(record.model_dump_json())  # in one line, because it includes every latency
    else:
        out.print(terminal_table(load_table(record)))
        out.print(escape("\n".join([*load_notes(record), load_sentence(record)])))
    if not any(point.totals.answered for point in record.points):
        raise typer.Exit(NOTHING_RAN)


def _call_tokens(config, info, limits, memory_gib: float | None) -> int:
    """Return the tokens of a call that the memory allows; what a device or another scorer needs is not known here."""
    import psutil

    from scorematrix.matrix.memory import call_tokens

    if info.framework not in ("jax", "pytorch") or info.device != "cpu":
        if memory_gib is not None:
            raise ValueError(
                f"--max-memory-gib={memory_gib} holds for JAX and PyTorch on a CPU; here, lower --max-batch-items"
            )
        return limits.max_call_tokens
    allowed = psutil.virtual_memory().available // 2 if memory_gib is None else int(memory_gib * 2**30)
    return call_tokens(config, info.view, info.dtype, info.framework, allowed, limits.max_call_tokens)


def _numbers(name: str, text: str, kind: type) -> list:
    """Parse `1,2,4` into numbers above 0, and `none` into no numbers."""
    if text.strip() in ("none", ""):
        return []
    try:
        numbers = [kind(part) for part in text.split(",")]
    except ValueError:
        raise ValueError(f"{name}={text!r} must be comma-separated numbers, e.g. 1,2,4, or none") from None
    if wrong := [number for number in numbers if not 0 < number < 1e6]:
        raise ValueError(f"{name}={text!r} contains {wrong[0]}, which is not above 0 and below a million")
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
    """Return requests of one shape, with token ids that the served model presumably has."""
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
