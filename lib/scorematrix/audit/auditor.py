"""Run all audits of one backend, for one verdict with its evidence."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from scorematrix.audit.caching import caching_gate
from scorematrix.audit.contract import BrokenPromise, Score, asker, contract_gates, finite_gate, refusal_gate
from scorematrix.audit.draws import Draws
from scorematrix.audit.isolation import isolation_gates
from scorematrix.audit.parity import parity_gates
from scorematrix.audit.probes import Probes, make_probes
from scorematrix.audit.search import Search, search_gate
from scorematrix.compare.numerics import Caps, caps_for
from scorematrix.models.catalogue import Model
from scorematrix.results.audits import AuditReport, Gate
from scorematrix.scoring import REFERENCE, Backend, load_backend, missing_packages
from scorematrix.scoring.stated_limits import StatedLimits

SECONDS = 30.0
"""Of the search."""
ROUNDING = {"float32": 1e-5, "bfloat16": 0.03}
"""Allowed change of a probability when the same request is computed in another shape."""


def audit_backend(backend: Backend, model: Model, *, seed: int = 0, seconds: float = SECONDS) -> AuditReport:
    """Send the probes to a loaded backend, search for a request that it answers wrongly, and judge its answers.

    Args:
        model: the model that the backend was loaded with; the reference computes with the same weights.
        seed: of the probes' token ids.
        seconds: of the search; 0 leaves it out.
    """
    info, probes = backend.info, make_probes(model.config.vocab_size, seed, softmax_only=backend.info.softmax_only)
    reference = reference_scores(model)
    gates = sound_gates(backend, probes, reference)
    if seconds and all(gate.status != "failed" for gate in gates):
        search = make_search(backend, model, probes, reference, seed)
        gates.append(search_gate(search, seconds))
        if gates[-1].status == "passed":
            gates.append(caching_gate(search))
    if any(gate.name == "finite" and gate.status == "passed" for gate in gates):  # its answers are scores
        gates.append(refusal_gate(backend, probes))
    return AuditReport(
        backend=info.backend, view=info.view, device=info.device, dtype=info.dtype, model=model.name, gates=gates
    )


def make_search(
    backend: Backend,
    model: Model,
    probes: Probes,
    reference: Score | str,
    seed: int,
    stated: StatedLimits | None = None,
) -> Search:
    """Return a search with the backend's limits. The arguments are those of `audit_backend` and of `Search`.

    Args:
        stated: a live server's limits; None: it is a backend in this process.
    """
    rng = np.random.default_rng([seed, 24])
    return Search(
        asker(backend),
        reference if callable(reference) else None,
        probes,
        Draws(probes, model.config.max_positions, rng, stated or StatedLimits()),
        allowed=backend_caps(backend).max,
        rounding=ROUNDING[backend.info.dtype],
        may_refuse=stated is not None,
        refuses=stated is None,  # bad requests to a server have a table
    )


def sound_gates(backend: Backend, probes: Probes, reference: Score | str) -> list[Gate]:
    """Run every gate that needs only sound requests, until an answer breaks the form.

    Args:
        reference: scores in float32, or why there are none.
    """
    gates: list[Gate] = []
    form = Gate(name="form", status="passed", detail="every sound request is answered by float32 [items, labels]")
    try:
        gates.extend(_ask(backend, probes, reference))
    except BrokenPromise as broken:  # gates that ran before it still count
        form = Gate(name="form", status="failed", detail=str(broken), request=probes.shown(broken.request))
    return [form, *gates]


def _ask(backend: Backend, probes: Probes, reference: Score | str) -> Iterator[Gate]:
    score, rounding = asker(backend), ROUNDING[backend.info.dtype]
    base, over_all = score(probes.base), score(probes.whole_vocabulary)
    finite = finite_gate(probes, base, over_all)
    yield finite
    if finite.status == "failed":  # its answers are not scores
        return
    yield from contract_gates(score, probes, base, over_all, rounding)
    yield from parity_gates(score, reference, probes, backend_caps(backend))
    yield from isolation_gates(score, probes, base, rounding)


def backend_caps(backend: Backend) -> Caps:
    """Return the allowed differences of the backend's scores from the reference's."""
    return caps_for(backend.info.dtype, on_cpu=backend.info.device.lower() == "cpu")


def reference_scores(model: Model) -> Score | str:
    """Return the float32 reference on the same weights, or why there is none."""
    if missing := missing_packages(REFERENCE[0]):
        return f"the reference needs the package {missing[0]}, which is not installed"
    return load_backend(REFERENCE[0], view=REFERENCE[1], model=model, device="cpu", dtype="float32").score
