"""One backend, all audits, one verdict with its evidence."""

from __future__ import annotations

from collections.abc import Iterator

from scorematrix.audit.contract import BrokenPromise, Score, asker, contract_gates, finite_gate
from scorematrix.audit.isolation import isolation_gates
from scorematrix.audit.parity import parity_gates
from scorematrix.audit.probes import Probes, make_probes
from scorematrix.compare.numerics import caps_for
from scorematrix.compare.schema import AuditReport, Gate
from scorematrix.models.catalogue import Model
from scorematrix.scoring import REFERENCE, Backend, load_backend, missing_packages

ROUNDING = {"float32": 1e-5, "bfloat16": 0.03}
"""How far a probability may move when the same question is computed in another shape."""


def audit_backend(backend: Backend, model: Model, *, seed: int = 0) -> AuditReport:
    """Ask a loaded backend the probes and judge its answers.

    Args:
        model: the model that the backend was loaded with; the reference computes with the same weights.
        seed: of the probes' token ids.
    """
    info, gates = backend.info, []
    form = Gate(name="form", status="passed", detail="every sound request is answered by float32 [items, labels]")
    try:
        gates.extend(_ask(backend, model, make_probes(model.config.vocab_size, seed)))
    except BrokenPromise as broken:  # what was found before it stands
        form = Gate(name="form", status="failed", detail=str(broken))
    return AuditReport(
        backend=info.backend,
        view=info.view,
        device=info.device,
        dtype=info.dtype,
        model=model.name,
        gates=[form, *gates],
    )


def _ask(backend: Backend, model: Model, probes: Probes) -> Iterator[Gate]:
    score, rounding = asker(backend), ROUNDING[backend.info.dtype]
    base, over_all = score(probes.base), score(probes.whole_vocabulary)
    finite = finite_gate(base, over_all)
    yield finite
    if finite.status == "failed":  # its answers are no scores at all
        return
    yield from contract_gates(backend, score, probes, base, over_all, rounding)
    caps = caps_for(backend.info.dtype, on_cpu=backend.info.device.lower() == "cpu")
    yield from parity_gates(score, _reference(model), probes, caps)
    yield from isolation_gates(score, probes, base, rounding)


def _reference(model: Model) -> Score | str:
    if missing := missing_packages(REFERENCE[0]):
        return f"the reference needs the package {missing[0]}, which is not installed"
    return load_backend(REFERENCE[0], view=REFERENCE[1], model=model, device="cpu", dtype="float32").score
