"""The command that audits one scorer."""

from __future__ import annotations

from typing import Annotated, Any

import typer
from rich.markup import escape

from scorematrix.cli.app import GATE_FAILED, AsJson, Device, DType, Mesh, Model, app, out
from scorematrix.wings import needed_wing


@app.command()
def audit(
    backend: Annotated[str | None, typer.Option(help="Backend to audit.")] = None,
    url: Annotated[
        str | None, typer.Option(help="Address of a live server to audit instead: http://HOST:PORT.")
    ] = None,
    server: Annotated[str | None, typer.Option(help="Kind of server: sglang (default), sglang-jax or vllm.")] = None,
    served_model: Annotated[str | None, typer.Option(help="Model name on the server.")] = None,
    risky: Annotated[bool, typer.Option("--risky", help="Finally send requests that have killed servers.")] = False,
    timeout: Annotated[
        float | None, typer.Option(help="Timeout of a request to the server, in seconds. Default: 120.", min=0.1)
    ] = None,
    view: Annotated[str | None, typer.Option(help="View to audit. Default: all of the backend's.")] = None,
    model: Model = "smollm2-135m",
    device: Device = "auto",
    dtype: DType = "auto",
    mesh: Mesh = None,
    seed: Annotated[int, typer.Option(help="Random seed of the requests.")] = 0,
    seconds: Annotated[
        float, typer.Option(help="Time to search for a request that is answered wrongly, per view. 0: none.", min=0.0)
    ] = 30.0,
    as_json: AsJson = False,
) -> None:
    """Check one backend or live server.

    Tests contract, parity and isolation. Exit code 3 if it is unsound.
    """
    from scorematrix.audit import audit_backend
    from scorematrix.models import load_model
    from scorematrix.report.audits import audit_sentence, audit_tables, replay_lines
    from scorematrix.report.terminal import terminal_table
    from scorematrix.scoring import backend_entry, load_backend

    if (backend is None) == (url is None):
        raise ValueError("audit: give either --backend B or --url URL")
    if url is None and (server or served_model or risky or timeout):
        given = f"--server={server!r}, --served-model={served_model!r}, --risky={risky} and --timeout={timeout}"
        raise ValueError(f"{given} need --url")
    if url is not None and view is not None:
        raise ValueError(f"--view={view!r} needs --backend; a live server has no views, leave it out")
    if url is not None and mesh is not None:
        raise ValueError(f"--mesh={mesh!r} needs --backend; a live server sets its mesh itself, leave it out")
    if url is not None:
        how: Any = {  # the CPU's accuracy limits apply only if `device` is cpu
            "server": server or "sglang",
            "dtype": "float32" if dtype == "auto" else dtype,
            "device": "server" if device == "auto" else device,
            "timeout_seconds": timeout or 120.0,
        }
        servers = needed_wing("servers", "--url")
        servers.check_packages()
        servers.ScoreClient(url, **how).close()  # report a wrong address before loading the model
        how |= {"served_model": served_model or "default", "seed": seed, "seconds": seconds, "risky": risky}
        reports = [servers.audit_server(url, load_model(model), **how)]
    else:
        assert backend is not None
        entry, loaded = backend_entry(backend, view), load_model(model)
        reports = []
        for one in [view] if view else entry.views:
            scorer = load_backend(backend, view=one, model=loaded, device=device, dtype=dtype, mesh=mesh)
            reports.append(audit_backend(scorer, loaded, seed=seed, seconds=seconds))
    if as_json:
        out.print_json(data=[report.model_dump(mode="json") | {"verdict": report.verdict} for report in reports])
    else:
        for report in reports:
            out.print(*map(terminal_table, audit_tables(report)))
            out.print(*map(escape, replay_lines(report)), sep="\n")
        out.print(escape("\n".join(map(audit_sentence, reports))))
    if any(report.verdict == "unsound" for report in reports):
        raise typer.Exit(GATE_FAILED)
