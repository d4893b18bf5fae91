"""What was found of one scorer on its own: kept as it was found, because a live server cannot be asked again later."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from scorematrix.results.cells import Part

GateStatus = Literal["passed", "failed", "not_run", "undecided"]


class Gate(Part):
    """One condition of a verdict: what was found, beside what is allowed."""

    name: str
    status: GateStatus
    detail: str
    found: dict[str, float] = Field(default={}, description="figures of the detail")
    allowed: dict[str, float] = Field(default={}, description="what they may be at most")
    request: str | None = Field(default=None, description="of an audit: the body, shortened, that shows the failure")


class ContractRow(Part):
    """What a live server answers to one request of the contract's table, beside what the contract wants."""

    case: str
    wanted: str = Field(description="the statuses that the contract allows")
    status: int | None = Field(default=None, description="None: no whole answer came, or the request was not sent")
    answer: str = Field(description="the server's own words, or why there are none")
    state: Literal["agrees", "differs", "fault", "not_sent"]
    fault: str | None = Field(default=None, description="answered_nonsense, server_error, server_died, timeout, ...")
    request: str = Field(description="the body, shortened")


class AuditReport(Part):
    """What was found of one backend on its own. The gates that could be asked, in the order of asking."""

    backend: str
    view: str
    device: str
    dtype: str
    model: str
    gates: list[Gate]
    url: str | None = Field(default=None, description="of a live server: where the requests were sent")
    contract: list[ContractRow] = Field(
        default=[], description="of a live server: how it answers bad requests and odd ones"
    )

    @property
    def verdict(self) -> Literal["sound", "unsound", "not_proved"]:
        """sound: every gate passed. unsound: one failed. not_proved: one could not run."""
        found = {gate.status for gate in self.gates}
        return "unsound" if "failed" in found else "not_proved" if "not_run" in found else "sound"
