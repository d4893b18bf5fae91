"""Results that a round records in addition to its cells: ceilings, probes, profile, attention times, samples."""

from __future__ import annotations

from pydantic import Field

from scorematrix.results.cells import Part, PassSamples


class Ceilings(Part):
    """Best rates that the framework reached on the device in this process: see `scoring.ceilings`."""

    dtype: str
    matmul_size: int
    matmul_flops_per_second: float
    copy_bytes_per_second: float


class Probes(Part):
    """Extra requests of a tuning round, at one chunk size (rules 35 and 36)."""

    chunk_size: int
    fresh_ns: PassSamples = Field(default=[], description="passes with new queries of the same lengths")
    repeat_ns: PassSamples = Field(
        default=[], description="passes with the workload's queries, alternating with the fresh ones"
    )
    neighbours_moved: float | None = Field(
        default=None,
        description="largest change of a score with items in reverse order and every other item's tokens changed",
    )
    error: str | None = None


class ProfilePart(Part):
    """One part of a profiled call: see `scoring.profiles`."""

    part: str
    seconds: float = Field(description="sum over its operations or kernels, which may overlap")
    n: int
    flops: int | None = Field(default=None, description="mathematical operations over the real tokens")


class Profile(Part):
    """One call of a tuning round under the framework's profiler, after all timing."""

    chunk_size: int
    seconds: float | None = Field(default=None, description="of the call, slowed by the profiler")
    parts: list[ProfilePart] = Field(default=[])
    error: str | None = None


class FormTime(Part):
    """Time of one form of attention: see `scoring.forms`."""

    form: str
    seconds: float | None = Field(description="median of the largest call; None: it failed")
    error: str | None = None


class ReferenceSample(Part):
    """Reference scores of some items of a request with drawn tokens.

    Both sides score all its items in a confirmation round. Source: rule 36; MLPerf TEST04 likewise sends requests
    that no scorer can have cached.
    """

    index: int = Field(description="of the confirmation rounds that score it")
    request: int = Field(ge=0, description="the request whose lengths and labels it has")
    seed: int = Field(description="of the tokens, from the system's random source")
    items: list[int] = Field(description="indices of the scored items")
    scores: list[list[float]] = Field(description="[item][label]")
