"""What is kept of a server under load: who was asked what and when, raw latencies, and where every request went."""

from __future__ import annotations

from typing import Annotated, Literal, Self

import numpy as np
from pydantic import Field, model_validator

from scorematrix.results.cells import Part
from scorematrix.results.schema import Environment
from scorematrix.sealed import SealedDocument

LOAD_SCHEMA_VERSION = 1

Nanoseconds = list[Annotated[int, Field(ge=0)]]

SUSTAINED = 0.95
"""A rate is sustained while so large a share of what is due is answered, and in time where there is an objective."""
SLACK = 3
"""So many requests may be on their way at the end of a point without a word: they are no backlog."""


class LoadTally(Part):
    """Where requests went. Every one of them is in exactly one place."""

    offered: int = Field(default=0, ge=0, description="due (open loop) or begun (closed loop) in this time")
    answered: int = Field(default=0, ge=0, description="with sound scores")
    refused: int = Field(default=0, ge=0, description="503 with a Retry-After: told to come again")
    rejected: int = Field(default=0, ge=0, description="bad requests, mixed in on purpose, that were refused as is due")
    failed: dict[str, Annotated[int, Field(gt=0)]] = Field(default={}, description="by class of fault")
    not_sent: int = Field(default=0, ge=0, description="open loop: due while as many as may were in flight")

    @property
    def n_failed(self) -> int:
        """Failures of every class."""
        return sum(self.failed.values())

    @model_validator(mode="after")
    def _accounts(self) -> Self:
        found = self.answered + self.refused + self.rejected + self.n_failed + self.not_sent
        if found != self.offered:
            raise ValueError(
                f"offered={self.offered}, but {found} are accounted for: {self.answered} answered, {self.refused} "
                f"refused, {self.rejected} rejected, {self.n_failed} failed, {self.not_sent} not sent"
            )
        return self


class LoadWindow(LoadTally):
    """A part of a point's time: the requests that were due, or begun, in it, however late they were answered."""

    seconds: float = Field(gt=0)
    seed: int | None = Field(default=None, description="open loop: of the arrivals")
    finished: int = Field(ge=0, description="sound answers that came in within this time, whenever asked for")
    latency_ns: Nanoseconds = Field(
        default=[], description="of sound answers, from the intended start; evenly thinned where fewer than answered"
    )
    lag_ns: Nanoseconds = Field(
        default=[], description="open loop: sent so long after the intended start; thinned likewise"
    )


class LoadPoint(Part):
    """One load for a time: so many at once (closed loop), or so many a second (open loop)."""

    kind: Literal["closed", "open"]
    concurrency: int | None = Field(
        default=None, ge=1, description="closed: connections with one request in flight each"
    )
    rate: float | None = Field(default=None, gt=0, description="open: Poisson arrivals a second, on average")
    max_in_flight: int | None = Field(default=None, ge=1, description="open: requests on their way at once, at most")
    warmup: LoadTally = LoadTally()
    windows: list[LoadWindow] = Field(min_length=1)
    surplus: int = Field(default=0, ge=0, description="answers that nobody had asked for")
    generator_cpu_share: float = Field(ge=0, description="of one core, taken by the generator")
    faults: dict[str, list[str]] = Field(default={}, description="by class: what the first failures said")

    @model_validator(mode="after")
    def _kinds(self) -> Self:
        wanted = (None, self.rate) if self.kind == "open" else (self.concurrency, None)
        if (self.concurrency, self.rate) != wanted or wanted == (None, None):
            raise ValueError(f"kind={self.kind!r} with concurrency={self.concurrency}, rate={self.rate}")
        return self

    @property
    def seconds(self) -> float:
        """Measured time, without the warm-up."""
        return sum(window.seconds for window in self.windows)

    @property
    def requests_per_second(self) -> float:
        """Sound answers a second."""
        return sum(window.finished for window in self.windows) / self.seconds

    @property
    def totals(self) -> LoadTally:
        """All windows together, without the warm-up."""
        names = ("offered", "answered", "refused", "rejected", "not_sent")
        failed: dict[str, int] = {}
        for window in self.windows:
            for kind, n in window.failed.items():
                failed[kind] = failed.get(kind, 0) + n
        return LoadTally(**{name: sum(getattr(w, name) for w in self.windows) for name in names}, failed=failed)

    def within(self, objective_seconds: float) -> float:
        """Requests of the measured time with sound answers within the objective."""
        total = 0.0
        for window in self.windows:
            if window.latency_ns:
                share = float(np.mean(np.asarray(window.latency_ns) <= objective_seconds * 1e9))
                total += share * window.answered
        return total

    def shortfall(self, objective_seconds: float | None = None) -> str | None:
        """Why an offered rate was not sustained, in words; None where it was."""
        totals = self.totals
        due = totals.offered - totals.rejected
        finished = sum(window.finished for window in self.windows)
        if totals.not_sent:
            return f"{totals.not_sent} requests could not be sent: {self.max_in_flight} were in flight"
        if totals.refused + totals.n_failed > (1 - SUSTAINED) * due:
            return f"{totals.refused} of {due} requests refused, {totals.n_failed} failed"
        if due - finished > max(SLACK, (1 - SUSTAINED) * due):
            return f"{finished} sound answers in the time in which {due} requests were due"
        if objective_seconds is not None and (within := self.within(objective_seconds)) < SUSTAINED * due:
            return f"{within / max(due, 1):.1%} of the requests within {objective_seconds * 1e3:g} ms"
        return None


class LoadCeiling(Part):
    """What the generator can do at most: the same questions to a server that does nothing at all."""

    requests_per_second: float = Field(gt=0)
    concurrency: int
    seconds: float


class MlperfResult(Part):
    """MLPerf LoadGen's own run and its own words; a second opinion."""

    scenario: Literal["SingleStream", "Offline", "Server"]
    status: Literal["done", "failed", "not_installed"]
    verdict: Literal["VALID", "INVALID"] | None = None
    reasons: list[str] = Field(default=[], description="why it is INVALID, in LoadGen's words")
    n_asked: int = 0
    n_failed: int = Field(
        default=0, description="not answered soundly; LoadGen itself counts any answer, a failed one too"
    )
    figures: dict[str, str] = Field(default={}, description="LoadGen's summary, as it stands there")
    settings: dict[str, float] = Field(default={}, description="what it was asked to do")
    text: str | None = Field(default=None, description="what went wrong, or what is missing and how to get it")


class LoadWorkload(Part):
    """What was asked."""

    name: str
    sha256: str
    n_requests: int = Field(
        description="different ones; sent in turn, each time with other tokens at the query's start"
    )
    n_items: float = Field(description="items of a request, on average")
    query_tokens: float
    tokens: float = Field(description="of a request, the query once")
    calls_per_request: int = Field(description="HTTP requests until all labels' probabilities are told")


class LoadRecord(SealedDocument):
    """One server under one or many loads."""

    schema_version: Literal[1] = LOAD_SCHEMA_VERSION
    scorematrix: str
    server: str
    model: str
    device: str = "server"
    started_utc: str
    finished_utc: str
    seed: int
    timeout_seconds: float
    objective_seconds: float | None = None
    bad_every: int = Field(default=0, description="every Nth request was malformed on purpose; 0: none")
    workload: LoadWorkload
    ceiling: LoadCeiling | None = None
    points: list[LoadPoint]
    mlperf: list[MlperfResult] = Field(default=[], description="empty: not asked for")
    environment: Environment | None = Field(default=None, description="of the machine that the generator ran on")
