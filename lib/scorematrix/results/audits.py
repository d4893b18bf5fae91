"""Audit results of one scorer, stored because a live server cannot be audited again later."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from scorematrix.results.cells import Part

GateStatus = Literal["passed", "failed", "not_run", "undecided"]


class Gate(Part):
    """One condition of a verdict: the measured figures and their limits."""

    name: str
    status: GateStatus
    detail: str
    found: dict[str, float] = Field(default={}, description="measured figures, as in `detail`")
    allowed: dict[str, float] = Field(default={}, description="upper limits of these figures")
    request: str | None = Field(
        default=None, description="audits: body that shows the failure; several in order, one per line"
    )


class ContractRow(Part):
    """A live server's answer to one request of the contract's table, and the statuses that the contract allows."""

    case: str
    wanted: str = Field(description="statuses that the contract allows")
    status: int | None = Field(default=None, description="None: no complete answer, or not sent")
    answer: str = Field(description="the server's scores or message, or why there are none")
    state: Literal["agrees", "differs", "fault", "not_sent"]
    fault: str | None = Field(default=None, description="answered_nonsense, server_error, server_died, timeout, ...")
    request: str = Field(description="the body; very long ones are shortened")


class AuditReport(Part):
    """Audit of one backend: the gates that could be checked, in the order of checking."""

    backend: str
    view: str
    device: str
    dtype: str
    model: str
    gates: list[Gate]
    url: str | None = Field(default=None, description="live servers: where the requests were sent")
    contract: list[ContractRow] = Field(
        default=[], description="live servers: answers to malformed and unusual requests"
    )

    @property
    def verdict(self) -> Literal["sound", "unsound", "not_proved"]:
        """sound: every gate passed. unsound: one failed. not_proved: one could not run."""
        statuses = {gate.status for gate in self.gates}
        return "unsound" if "failed" in statuses else "not_proved" if "not_run" in statuses else "sound"
