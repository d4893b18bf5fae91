"""Documents about targets: readiness, provisioning attempts, and compile results."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from scorematrix.checksum import SealedDocument
from scorematrix.results.cells import Part
from scorematrix.results.schema import SCHEMA_VERSION

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
"""permission: the account lacks it. in_use: another process has the device. no_answer: no server at its address.
unknown: refused for an unknown reason."""


class Attempt(Part):
    """One attempt to get a target's machine from a cloud, and the result. It never names an account or a project."""

    at_utc: str
    zone: str
    machine_type: str
    name: str | None = Field(default=None, description="of the requested resource")
    outcome: Literal["begun", "refused", "vanished", "half_made", "running"] = Field(
        description="begun: no end recorded; half_made: a resource may exist that could not be deleted"
    )
    kind: str | None = Field(default=None, description="class of the refusal, see `readiness.refusals`")
    text: str = Field(default="", description="the cloud's message, without identifying details")
    teardown: str | None = Field(default=None, description="the command that deletes the resource")


class TargetRecord(SealedDocument):
    """Attempts for one target, recorded by `scorematrix provision` or written by hand."""

    schema_version: Literal[2] = SCHEMA_VERSION
    target: str
    attempts: list[Attempt]


class CostlyOperation(Part):
    """One instruction of a compiled program with the compiler's estimate; see `scoring.jax.estimates`."""

    name: str
    operation: str = Field(description="its origin: the end of its scope path")
    part: str = Field(description="see `scoring.profiles`")
    runs: int = Field(description="per call; a loop's body runs once per trip")
    cycles: int = Field(description="of one run")

    @property
    def all_cycles(self) -> int:
        """Cycles of all its runs in a call."""
        return self.runs * self.cycles


class KernelResources(Part):
    """Multiprocessor resources that one kernel of a GPU program uses, by NVIDIA's assembler."""

    kernel: str
    part: str = Field(description="see `scoring.profiles`")
    registers: int = Field(description="per thread")
    shared_bytes: int = Field(description="fixed at compile time; a launch may add more")
    spill_bytes: int = Field(description="per thread, stored to and loaded from local memory for lack of registers")


class CompilerEstimate(Part):
    """The compiler's estimate of one call. Not a measurement."""

    flops: float | None = Field(default=None, description="by XLA, which counts the body of a loop once")
    bytes_accessed: float | None = Field(default=None, description="by XLA, which counts the body of a loop once")
    loop_trips: int | None = Field(default=None, description="of the longest loop, the one over layers")
    optimal_seconds: float | None = Field(
        default=None, description="by XLA, loop bodies counted once; None: no estimate, as for our kernels"
    )
    cycles: int | None = Field(
        default=None, description="of all operations with an estimate, loop bodies times their trips"
    )
    costliest: list[CostlyOperation] = Field(default=[], description="operations with the most cycles, largest first")
    without_cycles: list[str] = Field(default=[], description="our kernels, which the compiler does not estimate")
    kernels: list[KernelResources] = Field(default=[], description="of attention, for a CUDA target")

    def share(self, operation: CostlyOperation) -> float | None:
        """Return an operation's share of all estimated cycles; None without an estimate."""
        return operation.all_cycles / self.cycles if self.cycles else None


class CompiledCell(Part):
    """A cell compiled for an absent device. It never has a scoring time."""

    backend: str
    view: str
    chunk_size: int
    dtype: str
    mesh: str | None = Field(default=None, description="chips that the view is sharded over; sizes are per chip")
    status: Literal["compiled", "too_large", "failed", "not_compiled"] = Field(
        description="not_compiled: no compiler for it here; the error says what to install"
    )
    error: str | None = None
    arguments_bytes: int | None = Field(default=None, description="weights and inputs")
    temporaries_bytes: int | None = None
    outputs_bytes: int | None = None
    code_bytes: int | None = None
    over_bytes: int | None = Field(default=None, description="by how much it exceeds the memory")
    chip_bytes: int
    seconds: float = Field(description="compile time on this machine")
    floor_flops: int | None = Field(default=None, description="the fewest operations that score this call exactly")
    floor_seconds: float | None = Field(
        default=None, description="time of `floor_flops` at the used devices' dense bfloat16 peak, by datasheet"
    )
    estimate: CompilerEstimate | None = None


COMPILED_VERSION = 3
"""Version of compile records. 3 added the floor and the compiler's estimate."""


class CompiledRecord(SealedDocument):
    """Compile results of a plan's cells for one target."""

    schema_version: Literal[2, 3] = COMPILED_VERSION
    target: str
    model: str
    params_sha256: str
    workload_sha256: str
    compiler: str
    cells: list[CompiledCell]


class Datasheet(Part):
    """A chip maker's figures: shown next to measurements, never in their place (rule 37)."""

    memory_bytes: int
    bfloat16_flops_per_second: float = Field(description="of dense matrix products")
    memory_bytes_per_second: float
    source: str
    date: str = Field(description="when the source was read")


class TargetState(Part):
    """Whether one backend can run on one target now. A skip has its reason, evidence and next step."""

    target: str
    label: str = Field(description="what reports call the target")
    backend: str
    views: list[str]
    state: Literal["ready", "skipped"]
    reason: SkipReason | None = None
    evidence: str
    next_step: str | None = None
    datasheet: Datasheet | None = None
    attempts: list[Attempt] = Field(default=[], description="attempts to get its machine")


class Readiness(SealedDocument):
    """State of every (target, backend) of a plan."""

    schema_version: Literal[1, 2] = SCHEMA_VERSION
    checked_utc: str
    machine: str
    states: list[TargetState]
    compiled: list[CompiledRecord] = Field(default=[], description="compiled without hardware, for this run's workload")

    @property
    def skipped(self) -> list[TargetState]:
        """The states that are not ready."""
        return [state for state in self.states if state.state == "skipped"]

    def state(self, target: str, backend: str) -> TargetState | None:
        """Return the state of one pair, None if the plan has none."""
        return next((s for s in self.states if (s.target, s.backend) == (target, backend)), None)

    def skip(self, target: str, backend: str) -> TargetState | None:
        """Return the state of one pair if it was skipped, else None."""
        state = self.state(target, backend)
        return state if state is not None and state.state == "skipped" else None
