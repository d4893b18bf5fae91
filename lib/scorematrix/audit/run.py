"""One backend, all audits, one verdict with its evidence."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from scorematrix.audit.contract import contract_gates
from scorematrix.audit.isolation import isolation_gates
from scorematrix.audit.parity import parity_gates
from scorematrix.audit.probes import make_probes
from scorematrix.compare.numerics import caps_for
from scorematrix.compare.schema import Gate
from scorematrix.models.catalogue import Model
from scorematrix.scoring import Backend, load_backend, missing_packages

REFERENCE = ("transformers", "per_item")
ROUNDING = {"float32": 1e-5, "bfloat16": 0.03}
"""How far a probability may move when the same question is computed in another shape."""


@dataclass(frozen=True)
class AuditReport:
    """What was found of one backend.

    Attributes:
        verdict: sound: every gate passed. unsound: one failed. not_proved: none failed, but one could not run.
    """

    backend: str
    view: str
    device: str
    dtype: str
    model: str
    gates: tuple[Gate, ...]

    def as_data(self) -> dict[str, Any]:
        """Plain data, the verdict with it."""
        gates = [gate.model_dump(mode="json") for gate in self.gates]
        return vars(self) | {"gates": gates, "verdict": self.verdict}

    @property
    def verdict(self) -> Literal["sound", "unsound", "not_proved"]:
        found = {gate.status for gate in self.gates}
        return "unsound" if "failed" in found else "not_proved" if "not_run" in found else "sound"


def audit_backend(backend: Backend, model: Model, *, seed: int = 0) -> AuditReport:
    """Ask a loaded backend the probes and judge its answers.

    Args:
        model: the model that the backend was loaded with; the reference computes with the same weights.
        seed: of the probes' token ids.
    """
    info = backend.info
    probes = make_probes(model.config.vocab_size, seed)
    rounding = ROUNDING[info.dtype]
    gates = contract_gates(backend.score, probes, rounding)
    if {gate.name for gate in gates} > {"form", "finite"}:  # else its answers are no scores at all
        caps = caps_for(info.dtype, on_cpu=info.device.lower() == "cpu")
        gates += parity_gates(backend.score, _reference(model), probes, caps)
        gates += isolation_gates(backend.score, probes, rounding)
    return AuditReport(info.backend, info.view, info.device, info.dtype, model.name, tuple(gates))


def _reference(model: Model):
    if missing := missing_packages(REFERENCE[0]):
        return f"the reference needs the package {missing[0]}, which is not installed"
    return load_backend(REFERENCE[0], view=REFERENCE[1], model=model, device="cpu", dtype="float32").score
