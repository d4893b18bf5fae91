"""Judge a profiled call: each part's share of the time and of peak."""

from __future__ import annotations

from pydantic import Field

from scorematrix.results.cells import Part
from scorematrix.results.probes import Profile


class PartShare(Part):
    """One part of a profiled call: see `scoring.profiles`."""

    part: str
    seconds: float
    share: float = Field(description="of the seconds of all parts")
    n: int = Field(description="operations or kernels")
    flops_per_second: float | None = None
    ceiling_fraction: float | None = Field(None, description="of the side's measured matmul ceiling")


class CallProfile(Part):
    """Time of one call under the framework's profiler, by part, the longest first."""

    chunk_size: int
    seconds: float | None
    parts: list[PartShare]
    error: str | None = None


def call_profile(profile: Profile, ceiling: float | None) -> CallProfile:
    """Compute shares and rates from a recorded profile.

    Args:
        ceiling: the side's matmul ceiling, FLOP/s.
    """
    total = sum(part.seconds for part in profile.parts)
    rows = []
    for part in sorted(profile.parts, key=lambda part: -part.seconds):
        rate = part.flops / part.seconds if part.flops and part.seconds else None
        rows.append(
            PartShare(
                part=part.part,
                seconds=part.seconds,
                share=part.seconds / total if total else 0.0,
                n=part.n,
                flops_per_second=rate,
                ceiling_fraction=rate / ceiling if rate and ceiling else None,
            )
        )
    return CallProfile(chunk_size=profile.chunk_size, seconds=profile.seconds, parts=rows, error=profile.error)
