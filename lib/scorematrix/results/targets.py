"""What each target can do, what was tried to get it, and what its compiler proved: documents with a version."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from scorematrix.results.cells import Part
from scorematrix.results.schema import SCHEMA_VERSION
from scorematrix.sealed import SealedDocument

SkipReason = Literal[
    "quota",
    "capacity",
    "no_device",
    "no_answer",
    "not_installed",
    "unsupported",
    "by_user",
    "permission",
    "in_use",
    "unknown",
]
"""permission: the account may not. in_use: another process has the device. no_answer: no server at its address.
unknown: refused for a reason that is not known."""


class Attempt(Part):
    """One try to get a target's machine from a cloud, and its answer. Never an account or a project."""

    at_utc: str
    zone: str
    machine_type: str
    name: str | None = Field(default=None, description="of the resource that was asked for")
    outcome: Literal["begun", "refused", "vanished", "half_made", "running"] = Field(
        description="begun: no end is on record; half_made: something may be there and could not be given back"
    )
    kind: str | None = Field(default=None, description="class of the refusal, see `readiness.refusals`")
    text: str = Field(default="", description="what the cloud said, without what gives somebody away")
    teardown: str | None = Field(default=None, description="the command that gives the resource back")


class TargetRecord(SealedDocument):
    """What was tried for one target, by `scorematrix provision` or written by hand."""

    schema_version: Literal[2] = SCHEMA_VERSION
    target: str
    attempts: list[Attempt]


class CostlyOperation(Part):
    """One instruction of a compiled program with the compiler's estimate; see `scoring.jax.estimates`."""

    name: str
    operation: str = Field(description="what it came from: the end of its path of scopes")
    part: str = Field(description="see `scoring.profiles`")
    runs: int = Field(description="in one call, a loop's body by the loop's trips")
    cycles: int = Field(description="of one run")

    @property
    def all_cycles(self) -> int:
        """Of all its runs in a call."""
        return self.runs * self.cycles


class KernelResources(Part):
    """What one kernel of a GPU program takes of a multiprocessor, by NVIDIA's assembler."""

    kernel: str
    part: str = Field(description="see `scoring.profiles`")
    registers: int = Field(description="of a thread")
    shared_bytes: int = Field(description="fixed when it was compiled; a launch may add more")
    spill_bytes: int = Field(description="that a thread stores in and loads from local memory for lack of registers")


class CompilerEstimate(Part):
    """What the compiler estimates of one call. Not a measurement."""

    flops: float | None = Field(default=None, description="by XLA, which counts the body of a loop once")
    bytes_accessed: float | None = Field(default=None, description="by XLA, which counts the body of a loop once")
    loop_trips: int | None = Field(default=None, description="of the longest loop: the layers'")
    optimal_seconds: float | None = Field(
        default=None, description="by XLA, the body of a loop once; None: it has none, for a kernel of ours say"
    )
    cycles: int | None = Field(
        default=None, description="of all operations that have an estimate, loops by their trips"
    )
    costliest: list[CostlyOperation] = Field(default=[], description="those of most cycles, the first of all first")
    without_cycles: list[str] = Field(default=[], description="kernels of ours, which the compiler does not estimate")
    kernels: list[KernelResources] = Field(default=[], description="of attention, for a CUDA target")

    def share(self, operation: CostlyOperation) -> float | None:
        """An operation's share of all estimated cycles."""
        return operation.all_cycles / self.cycles if self.cycles else None


class CompiledCell(Part):
    """A cell that was compiled for a device that was not there: it never carries a time of scoring."""

    backend: str
    view: str
    chunk_size: int
    dtype: str
    mesh: str | None = Field(default=None, description="of chips that the view is spread over; sizes are of one chip")
    status: Literal["compiled", "too_large", "failed", "not_compiled"] = Field(
        description="not_compiled: there is no compiler for it here, the error says what to install"
    )
    error: str | None = None
    arguments_bytes: int | None = Field(default=None, description="weights and inputs")
    temporaries_bytes: int | None = None
    outputs_bytes: int | None = None
    code_bytes: int | None = None
    over_bytes: int | None = Field(default=None, description="by how much it does not fit")
    chip_bytes: int
    seconds: float = Field(description="that compiling took, here")
    floor_flops: int | None = Field(default=None, description="the fewest operations that score this call exactly")
    floor_seconds: float | None = Field(
        default=None, description="those at the datasheet's dense bfloat16 peak of the devices used"
    )
    estimate: CompilerEstimate | None = None


COMPILED_VERSION = 3
"""Of compiled records. 3 added the floor and the compiler's estimate."""


class CompiledRecord(SealedDocument):
    """What the compiler of a target said of a plan's cells."""

    schema_version: Literal[2, 3] = COMPILED_VERSION
    target: str
    model: str
    params_sha256: str
    workload_sha256: str
    compiler: str
    cells: list[CompiledCell]


class Datasheet(Part):
    """What the maker of a chip says of it: it stands beside what is measured, and never for it (rule 37)."""

    memory_bytes: int
    bfloat16_flops_per_second: float = Field(description="of dense matrix products")
    memory_bytes_per_second: float
    source: str
    date: str = Field(description="when it was read there")


class TargetState(Part):
    """Whether one backend can run on one target now; a skip says why, on what evidence, and what to do."""

    target: str
    label: str = Field(description="what reports call the target")
    backend: str
    views: list[str]
    state: Literal["ready", "skipped"]
    reason: SkipReason | None = None
    evidence: str
    next_step: str | None = None
    datasheet: Datasheet | None = None
    attempts: list[Attempt] = Field(default=[], description="what was tried to get its machine")


class Readiness(SealedDocument):
    """Every (target, backend) of a plan and what became of it."""

    schema_version: Literal[1, 2] = SCHEMA_VERSION
    checked_utc: str
    machine: str
    states: list[TargetState]
    compiled: list[CompiledRecord] = Field(default=[], description="proofs without hardware, of this run's workload")

    @property
    def skipped(self) -> list[TargetState]:
        """The states that did not come out ready."""
        return [state for state in self.states if state.state == "skipped"]

    def state(self, target: str, backend: str) -> TargetState | None:
        """The state of one pair, None where the plan has none."""
        return next((s for s in self.states if (s.target, s.backend) == (target, backend)), None)

    def skip(self, target: str, backend: str) -> TargetState | None:
        """The state of one pair that was skipped, else None."""
        state = self.state(target, backend)
        return state if state is not None and state.state == "skipped" else None
