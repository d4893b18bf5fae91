"""What is kept of a run: documents with a version and a seal. Raw samples only; statistics are computed from them."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from scorematrix.sealed import SealedDocument

SCHEMA_VERSION = 1
"""Version of the files. A newer one is refused; an older one is brought up in `results.store`."""

PROTOCOL = "1"
"""Version of how a round measures. Rounds of different protocols are never compared."""

SIDES = ("jax", "pytorch")
"""Backends that stand for their framework in a comparison; any other is a baseline."""

Role = Literal["tuning", "confirm", "reference"]
"""tuning: chooses each side's chunk. confirm: estimates on fresh processes. reference: exact scores, never timed."""

CellStatus = Literal["ok", "failed", "timeout", "not_run"]
SkipReason = Literal["quota", "capacity", "no_device", "not_installed", "unsupported", "by_user"]

PassSamples = list[list[list[Annotated[int, Field(ge=0)]]]]
"""Nanoseconds of every call: [pass][request][call]."""

RequestScores = list[list[list[float]]]
"""Probabilities: [request][item][label]."""


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, ser_json_inf_nan="strings")


class Cell(_Part):
    """One chunk size of a round. Not `ok` means no figure: the reason and the error's text stand instead."""

    chunk_size: int
    status: CellStatus
    error: str | None = None
    warmup_ns: PassSamples = []
    call_ns: PassSamples = []
    compiles_in_window: int = Field(0, description="programs made while the clock ran; any makes the cell invalid")
    scores: RequestScores = Field([], description="what the last timed pass returned")
    pass_deviation: float | None = Field(None, description="largest difference of any timed pass from `scores`")
    peak_host_bytes: int | None = Field(None, description="peak of resident memory beyond the loaded model's")


class Compile(_Part):
    """One program made ready before timing (seconds)."""

    program: str
    trace_seconds: float
    compile_seconds: float
    from_cache: bool


class Setup(_Part):
    """Where a round's time went before the first timed call (seconds)."""

    load_model_seconds: float
    load_backend_seconds: float
    prepare_seconds: float
    compiles: list[Compile] = []


class Environment(_Part):
    """The machine and software of a round; names, versions and counts, never accounts, hosts or credentials."""

    machine_sha256: str = Field(description="hash that tells machines apart without naming them")
    cpu: str
    n_cores: int
    affinity: list[int]
    memory_bytes: int
    load_average: float = Field(description="runnable tasks over the minute before the round")
    platform: str
    python: str
    packages: dict[str, str]
    variables: dict[str, str] = Field(description="environment variables from an allow-list")
    git_commit: str | None
    git_dirty: bool | None


class Ceilings(_Part):
    """What the device gave through the framework at best in this very process: see `scoring.ceilings`."""

    dtype: str
    matmul_size: int
    matmul_flops_per_second: float
    copy_bytes_per_second: float


class BackendRecord(_Part):
    """What scored: see `scoring.BackendInfo`."""

    framework: str
    device: str
    dtype: str
    precision: str
    settings: dict[str, str | int | float | bool] = {}
    fallbacks: list[str] = []


class Round(SealedDocument):
    """One fresh process that measured one (backend, view) on one target over its chunk sizes."""

    schema_version: Literal[1] = SCHEMA_VERSION
    protocol: str = PROTOCOL
    run_id: str
    index: int
    role: Role
    backend: str
    view: str
    target: str
    position: int = Field(description="place in the run's order of execution")
    started_utc: str
    finished_utc: str
    params_sha256: str
    workload_sha256: str
    weights_sha256: str | None = None
    record: BackendRecord | None = None
    setup: Setup | None = None
    environment: Environment | None = None
    ceilings: Ceilings | None = Field(None, description="measured after the cells of tuning rounds")
    cells: list[Cell]
    error: str | None = Field(None, description="why the round as a whole failed")

    @property
    def name(self) -> str:
        """File name without its ending; unique in a run."""
        return round_name(self.backend, self.view, self.target, self.index)

    def cell(self, chunk_size: int) -> Cell | None:
        """The cell of a chunk size, None where the round has none."""
        return next((cell for cell in self.cells if cell.chunk_size == chunk_size), None)


def round_name(backend: str, view: str, target: str, index: int) -> str:
    """`<backend>.<view>.<target>.r<index>`."""
    return f"{backend}.{view}.{target}.r{index:02d}"


class PlannedRound(_Part):
    """One process to come: what it measures, as what, and its place in the run."""

    index: int
    role: Role
    backend: str
    view: str
    target: str
    position: int

    @property
    def name(self) -> str:
        """The name of its result file."""
        return round_name(self.backend, self.view, self.target, self.index)


class TargetState(_Part):
    """Whether one backend can run on one target now; a skip says why, on what evidence, and what to do."""

    target: str
    label: str = Field(description="what reports call the target")
    backend: str
    views: list[str]
    state: Literal["ready", "skipped"]
    reason: SkipReason | None = None
    evidence: str
    next_step: str | None = None


class Readiness(SealedDocument):
    """Every (target, backend) of a plan and what became of it."""

    schema_version: Literal[1] = SCHEMA_VERSION
    checked_utc: str
    machine: str
    states: list[TargetState]

    @property
    def skipped(self) -> list[TargetState]:
        """The states that did not come out ready."""
        return [state for state in self.states if state.state == "skipped"]

    def state(self, target: str, backend: str) -> TargetState | None:
        """The state of one pair, None where the plan has none."""
        return next((s for s in self.states if (s.target, s.backend) == (target, backend)), None)


class Manifest(SealedDocument):
    """run.json: what was asked for, fixed before the first round."""

    schema_version: Literal[1] = SCHEMA_VERSION
    run_id: str
    created_utc: str
    scorematrix: str
    params: dict
    params_sha256: str
    workload_sha256: str
    floor_flops: int | None = Field(None, description="fewest operations that score the workload once exactly")
    plan: list[PlannedRound]
