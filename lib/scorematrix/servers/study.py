"""Audit a live server and measure the load that it sustains, once per run, in its tuning round."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from scorematrix.matrix.meter import error_text
from scorematrix.matrix.params import Params
from scorematrix.measure import describe_environment
from scorematrix.readiness.targets import target
from scorematrix.results import PlannedRound
from scorematrix.results.files import utc_now
from scorematrix.servers.audit.server import audit_server
from scorematrix.servers.client import LiveBackend
from scorematrix.servers.load import Plan, measure_load
from scorematrix.servers.studies import ServerStudy
from scorematrix.workload import Workload


def study_server(live: LiveBackend, params: Params, planned: PlannedRound, workload: Workload) -> ServerStudy | None:
    """Audit the server and put it under load, as the params request; None for neither. Record a part's error."""
    choice = next(b.server for b in params.backends if b.backend == planned.backend)
    assert choice
    parts: dict[str, Callable[[], Any]] = {}
    if choice.audit:
        parts["audit"] = lambda: audit_server(
            live.address,
            live.model,
            server=planned.backend,
            served_model=live.served_model,
            dtype=live.info.dtype,
            device=target(planned.target).kind,
            timeout_seconds=params.call_timeout_seconds,
        )
    if (load := params.load) is not None:
        parts["load"] = lambda: measure_load(
            live.address,
            workload,
            server=planned.backend,
            model=live.served_model,
            device=live.info.device,
            concurrency=load.concurrency,
            rates=load.rates,
            plan=Plan(load.warmup_seconds, load.seconds),
            objective_seconds=None if load.objective_ms is None else load.objective_ms / 1e3,
            timeout_seconds=params.call_timeout_seconds,
            seed=params.seed,
            environment=describe_environment(),
        )
    if not parts:
        return None
    results: dict[str, Any] = {}
    errors: dict[str, str] = {}
    for name, ask in parts.items():
        try:
            results[name] = ask()
        except Exception as error:  # the rounds go on: no verdict depends on a study
            errors[name] = error_text(error)
    return ServerStudy(
        backend=planned.backend,
        target=planned.target,
        params_sha256=params.sha256,
        workload_sha256=workload.sha256,
        at_utc=utc_now(),
        errors=errors,
        **results,
    )
