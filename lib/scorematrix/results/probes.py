"""Results that a round records in addition to its cells: ceilings, probes, profile, attention times, samples."""

from __future__ import annotations

from pydantic import Field

from scorematrix.results.cells import Part, PassSamples


class Ceilings(Part):
    """What the device gave through the framework at best in this very process: see `scoring.ceilings`."""

    dtype: str
    matmul_size: int
    matmul_flops_per_second: float
    copy_bytes_per_second: float


class Probes(Part):
    """What a tuning round asks beside the workload, at one chunk size (rules 35 and 36)."""

    chunk_size: int
    fresh_ns: PassSamples = Field(
        default=[], description="passes with queries that were never asked before, of equal lengths"
    )
    repeat_ns: PassSamples = Field(
        default=[], description="passes with the workload's own, in turn with the fresh ones"
    )
    neighbours_moved: float | None = Field(
        default=None,
        description="largest change of a score when items come in reverse order, every other one with other tokens",
    )
    error: str | None = None


class ProfilePart(Part):
    """One part of a profiled call: see `scoring.profiles`."""

    part: str
    seconds: float = Field(description="of its operations or kernels together; they may overlap")
    n: int
    flops: int | None = Field(default=None, description="operations of the mathematics, over the real tokens")


class Profile(Part):
    """One call under the framework's profiler, after all timing, in a tuning round."""

    chunk_size: int
    seconds: float | None = Field(default=None, description="of the call, slowed by the profiler")
    parts: list[ProfilePart] = Field(default=[])
    error: str | None = None


class FormTime(Part):
    """How long one form of attention takes: see `scoring.forms`."""

    form: str
    seconds: float | None = Field(description="median of the largest call; None: it failed")
    error: str | None = None


class ReferenceSample(Part):
    """Scores of some items of a request with drawn tokens. Both sides score the whole request in a confirmation round.

    Source: rule 36; MLPerf TEST04 likewise asks what no scorer can have kept.
    """

    index: int = Field(description="of the confirmation rounds")
    request: int = Field(ge=0, description="whose lengths and labels it has")
    seed: int = Field(description="of the tokens, from the system's randomness")
    items: list[int] = Field(description="which of the request's items were scored")
    scores: list[list[float]] = Field(description="[item][label]")
