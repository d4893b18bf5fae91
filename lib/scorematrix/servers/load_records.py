"""Records of a server under load: the load, raw latencies, and the outcome of every request."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

import numpy as np
from pydantic import Field, model_validator

from scorematrix.checksum import SealedDocument
from scorematrix.results.cells import Part
from scorematrix.results.schema import Environment

LOAD_SCHEMA_VERSION = 1

Nanoseconds = list[Annotated[int, Field(ge=0)]]

SUSTAINED = 0.95
"""A rate is sustained if at least this share of its requests is answered, and within the objective if there is one."""
SLACK = 3
"""This many requests may be unanswered at the end of a point without counting as a backlog."""


class LoadTally(Part):
    """Outcomes of requests. Each request has exactly one."""

    offered: int = Field(default=0, ge=0, description="scheduled (open loop) or started (closed loop) in this time")
    answered: int = Field(default=0, ge=0, description="with sound scores")
    refused: int = Field(default=0, ge=0, description="503 with a Retry-After header")
    rejected: int = Field(default=0, ge=0, description="deliberately malformed requests, correctly refused")
    failed: dict[str, Annotated[int, Field(gt=0)]] = Field(default={}, description="by class of fault")
    not_sent: int = Field(default=0, ge=0, description="open loop: scheduled at the in-flight limit")

    @property
    def n_failed(self) -> int:
        """Failures of every class."""
        return sum(self.failed.values())

    @model_validator(mode="after")
    def _accounts(self) -> Self:
        total = self.answered + self.refused + self.rejected + self.n_failed + self.not_sent
        if total != self.offered:
            raise ValueError(
                f"offered={self.offered}, but {total} are accounted for: {self.answered} answered, {self.refused} "
                f"refused, {self.rejected} rejected, {self.n_failed} failed, {self.not_sent} not sent"
            )
        return self


class LoadWindow(LoadTally):
    """Part of a point's time: the requests scheduled or started in it, however late they were answered."""

    seconds: float = Field(gt=0)
    seed: int | None = Field(default=None, description="open loop: of the arrivals")
    finished: int = Field(ge=0, description="sound answers received in this time, whenever requested")
    latency_ns: Nanoseconds = Field(
        default=[], description="of sound answers, from the intended start; evenly thinned if fewer than `answered`"
    )
    lag_ns: Nanoseconds = Field(
        default=[], description="open loop: from the intended start to sending; thinned likewise"
    )


class LoadPoint(Part):
    """One load level: a fixed concurrency (closed loop) or a mean arrival rate (open loop)."""

    kind: Literal["closed", "open"]
    concurrency: int | None = Field(
        default=None, ge=1, description="closed: connections with one request in flight each"
    )
    rate: float | None = Field(default=None, gt=0, description="open: mean Poisson arrivals per second")
    max_in_flight: int | None = Field(default=None, ge=1, description="open: limit of requests in flight")
    warmup: LoadTally = LoadTally()
    windows: list[LoadWindow] = Field(min_length=1)
    surplus: int = Field(default=0, ge=0, description="answers without a request")
    generator_cpu_share: float = Field(ge=0, description="share of one core that the generator used")
    faults: dict[str, list[str]] = Field(default={}, description="by class: messages of the first failures")

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
        """Sound answers per second."""
        return sum(window.finished for window in self.windows) / self.seconds

    @property
    def totals(self) -> LoadTally:
        """Sum over all windows, without the warm-up."""
        names = ("offered", "answered", "refused", "rejected", "not_sent")
        failed: dict[str, int] = {}
        for window in self.windows:
            for kind, n in window.failed.items():
                failed[kind] = failed.get(kind, 0) + n
        return LoadTally(**{name: sum(getattr(w, name) for w in self.windows) for name in names}, failed=failed)

    def within(self, objective_seconds: float) -> float:
        """Return how many requests of the measured time got a sound answer within the objective."""
        total = 0.0
        for window in self.windows:
            if window.latency_ns:
                share = float(np.mean(np.asarray(window.latency_ns) <= objective_seconds * 1e9))
                total += share * window.answered
        return total

    def shortfall(self, objective_seconds: float | None = None) -> str | None:
        """Explain why an offered rate was not sustained; None if it was."""
        totals = self.totals
        expected = totals.offered - totals.rejected
        finished = sum(window.finished for window in self.windows)
        if totals.not_sent:
            return f"{totals.not_sent} requests could not be sent: {self.max_in_flight} were in flight"
        if totals.refused + totals.n_failed > (1 - SUSTAINED) * expected:
            return f"{totals.refused} of {expected} requests refused, {totals.n_failed} failed"
        if expected - finished > max(SLACK, (1 - SUSTAINED) * expected):
            return f"only {finished} sound answers while {expected} requests were scheduled"
        if objective_seconds is not None and (within := self.within(objective_seconds)) < SUSTAINED * expected:
            return f"only {within / max(expected, 1):.1%} of the requests within {objective_seconds * 1e3:g} ms"
        return None


class LoadCeiling(Part):
    """Maximum rate of the generator: the same requests to a server that does no work."""

    requests_per_second: float = Field(gt=0)
    concurrency: int
    seconds: float


class LoadWorkload(Part):
    """Requests of a load test."""

    name: str
    sha256: str
    n_requests: int = Field(
        description="distinct requests; sent in rotation, each time with new tokens at the query's start"
    )
    n_items: float = Field(description="mean items per request")
    query_tokens: float
    tokens: float = Field(description="per request, its query counted once")
    calls_per_request: int = Field(description="HTTP requests needed for the probabilities of all labels")


class LoadRecord(SealedDocument):
    """One server under one or more loads."""

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
    mlperf: list[Any] = Field(default=[], description="of earlier versions: results of MLPerf LoadGen")
    environment: Environment | None = Field(default=None, description="of the machine that the generator ran on")
