"""Audit a live server: the gates of a backend, plus faults that only a server can have."""

from __future__ import annotations

import numpy as np

from scorematrix.audit.auditor import ROUNDING, backend_caps, make_search, reference_scores, sound_gates
from scorematrix.audit.contract import BrokenPromise, Score, asker
from scorematrix.audit.isolation import SAME
from scorematrix.audit.probes import Probes, make_probes
from scorematrix.audit.search import search_gate
from scorematrix.models.catalogue import Model
from scorematrix.results.audits import AuditReport, Gate
from scorematrix.scoring.contract import DType
from scorematrix.servers.audit.concurrency import concurrency_gate
from scorematrix.servers.audit.layout import insertions_gate, item_first_gate
from scorematrix.servers.audit.length import too_long_gate
from scorematrix.servers.audit.table import contract_gate, contract_rows
from scorematrix.servers.audit.wire import Wire
from scorematrix.servers.client import ScoreClient


def audit_server(
    url: str,
    model: Model,
    *,
    server: str = "sglang",
    served_model: str = "default",
    dtype: DType = "float32",
    device: str = "server",
    timeout_seconds: float = 120.0,
    seed: int = 0,
    risky: bool = False,
    seconds: float = 0.0,
) -> AuditReport:
    """Send the probes to a live server, and judge its answers and refusals.

    Args:
        url: its address, without a path.
        model: the model that it serves; the reference computes with the same weights.
        server: its kind, a key of `DIALECTS`.
        served_model: the name that it serves the model under.
        dtype: the number format that it was started with.
        device: what it runs on, as text; "cpu" applies the CPU's accuracy limits.
        risky: also send, last, requests that have crashed servers.
        seconds: of the search for a request that it answers wrongly; 0 leaves it out.

    Raises:
        ValueError: if the address is malformed, or nothing listens there.
    """
    client = ScoreClient(
        url, server=server, model=served_model, dtype=dtype, device=device, timeout_seconds=timeout_seconds
    )
    wire = Wire(url, server, served_model, timeout_seconds)
    try:
        if not wire.is_there():
            raise ValueError(f"url={url!r}: nothing listens there; start the server, or correct host and port")
        probes = make_probes(model.config.vocab_size, seed, served_model)
        gates = _gates(client, wire, model, probes, seconds, seed)
        rows = list(contract_rows(wire, probes, ROUNDING[dtype], risky=risky))
    finally:
        client.close()
        wire.close()
    return AuditReport(
        backend=server,
        view="server",
        device=device,
        dtype=dtype,
        model=model.name,
        gates=[*gates, contract_gate(rows)],
        url=wire.url,
        contract=rows,
    )


def _gates(client: ScoreClient, wire: Wire, model: Model, probes: Probes, seconds: float, seed: int) -> list[Gate]:
    score, reference = asker(client), reference_scores(model)
    gates = sound_gates(client, probes, reference)
    parity = next((gate for gate in gates if gate.name == "parity"), None)
    if parity is None:  # its answers to sound requests are unusable
        why = "sound requests are not answered with scores, see above"
        names = ("constant scores", "insertions", "item_first", "too long", "concurrency")
        return [*gates, *(Gate(name=name, status="not_run", detail=why) for name in names)]
    largest = backend_caps(client).max
    try:
        gates.append(constant_gate(score, probes))
        gates.append(insertions_gate(score, reference, probes, model, parity, largest))
    except BrokenPromise as broken:  # it answered these before
        detail = f"sent again, {broken}"
        gates.append(Gate(name="insertions", status="failed", detail=detail, request=probes.shown(broken.request)))
    gates.append(item_first_gate(wire, reference, probes, largest))
    gates.append(concurrency_gate(score, probes, ROUNDING[client.info.dtype]))
    if seconds and all(gate.status != "failed" for gate in gates):
        search = make_search(client, model, probes, reference, seed, wire.stated_limits())
        gates.append(search_gate(search, seconds))
    gates.append(too_long_gate(wire, probes, model.config.max_positions))
    return gates


def constant_gate(score: Score, probes: Probes) -> Gate:
    """Check that scores depend on the request: no single value for every item of every query."""
    name, rows = "constant scores", np.concatenate([score(probes.base), score(probes.other_query)])
    if np.abs(rows - rows[0]).max() >= SAME:
        return Gate(name=name, status="passed", detail="scores differ between items and queries")
    detail = f"every item of every query gets {rows[0].tolist()} with status 200: a default, not a score"
    return Gate(name=name, status="failed", detail=detail, request=probes.shown(probes.base))
