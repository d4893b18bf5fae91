"""What is kept of a run: documents with a version and a seal. Raw samples only; statistics are computed from them."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Literal

from pydantic import Field

from scorematrix.results.cells import Cell, Part
from scorematrix.results.probes import Ceilings, FormTime, Probes, Profile, ReferenceSample
from scorematrix.sealed import SealedDocument

SCHEMA_VERSION = 2
"""Version of the files. A newer one is refused; an older one is brought up in `results.store`.
2 added control rounds, probes and the record of noise."""

ROUND_VERSION = 4
"""Of round files. 3 added the profile, 4 the turns."""

PROTOCOL = "2"
"""Version of how a round measures. Rounds of different protocols are never compared. 2: in turns."""

SIDES: dict[str, Literal["jax", "pytorch"]] = {
    "jax": "jax",
    "pytorch": "pytorch",
    "sglang-jax": "jax",
    "sglang": "pytorch",
    "vllm": "pytorch",
}
"""Backends that stand for a framework in a comparison, our engines against each other and live servers against each
other; any other is a baseline."""
Opposed = tuple[str, str]
"""One side of a comparison as params name it: a framework or a backend, and its target."""


def opposed(comparison: Mapping[str, str]) -> tuple[Opposed, Opposed]:
    """Both sides of a comparison of the params, JAX before PyTorch and others as they are written.

    Raises:
        ValueError: for another number of sides.
    """
    first, second = comparison.items()
    return (second, first) if (first[0], second[0]) == ("pytorch", "jax") else (first, second)


def stands_for(side: str, backend: str) -> bool:
    """Whether a backend stands on a side that params name by a framework or by the backend itself."""
    return side == backend or SIDES.get(backend) == side


SERVER_VIEW = "server"
"""The view of live servers: whatever they do behind their address."""

Waiting = Literal["spinning", "passive"]
"""How a pool of OpenMP threads waits. spinning: as the library does by default, for a while on its core, which is
quickest on a quiet machine; passive: asleep, which another process's work does not slow down."""

Role = Literal["tuning", "confirm", "control", "reference"]
"""tuning: chooses each side's chunk. confirm: estimates on fresh processes. control: a backend against itself, and
against itself slowed. reference: exact scores, never timed."""


class Compile(Part):
    """One program made ready before timing (seconds)."""

    program: str
    trace_seconds: float
    compile_seconds: float
    from_cache: bool


class Setup(Part):
    """Where a round's time went before the first timed call (seconds)."""

    load_model_seconds: float
    load_backend_seconds: float
    prepare_seconds: float
    compiles: list[Compile] = Field(default=[])


class Environment(Part):
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


class GpuNoise(Part):
    """What a GPU said of itself before and after the cells of a round."""

    name: str
    driver: str
    power_limit_watts: float | None = None
    clock_mhz: list[float] = Field(default=[])
    temperature_celsius: list[float] = Field(default=[])
    slowdowns: list[str] = Field(default=[], description="reasons of hardware or heat for which it cut its clock")
    other_processes: int | None = None
    energy_joules: float | None = Field(default=None, description="over the time between; see `Noise.seconds`")


class Noise(Part):
    """What else went on between the first and the last cell of a round (rules 19 and 20)."""

    seconds: float
    load_average: float = Field(description="runnable tasks over the last minute, after the cells")
    others_share: float | None = Field(default=None, description="of this process's cores: taken by other processes")
    stolen_share: float | None = Field(default=None, description="of this process's cores: taken by the machine below")
    cpu_mhz: list[float] = Field(default=[], description="mean clock of the cores, before and after; empty: not told")
    throttle_events: int | None = Field(
        default=None, description="times that a core was slowed for heat; None: no counter"
    )
    gpus: list[GpuNoise] = Field(default=[])


class BackendRecord(Part):
    """What scored: see `scoring.BackendInfo`."""

    framework: str
    device: str
    dtype: str
    precision: str
    settings: dict[str, str | int | float | bool] = Field(default={})
    fallbacks: list[str] = Field(default=[])


class LostTry(Part):
    """A measurement of a round that did not come back, because its node or the connection to it was lost."""

    at_utc: str
    node: str = Field(description="the cluster's own short id, never a host's name")
    reason: str


class Try(Part):
    """An earlier measurement of a round in the same run folder, by the folder's journal."""

    begun_utc: str
    outcome: Literal["sound", "failed", "lost", "unfinished"] = Field(
        description="sound: every cell was measured; unfinished: the run ended in the middle of it"
    )


class Round(SealedDocument):
    """One fresh process that measured one (backend, view) on one target over its chunk sizes."""

    schema_version: Literal[1, 2, 3, 4] = ROUND_VERSION
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
    seconds: float | None = Field(
        default=None, ge=0, description="taken, by a clock that is never set back; None: older files"
    )
    waiting: Waiting | None = Field(default=None, description="of its threads; None: it has no such pool")
    attention: str | None = Field(default=None, description="form that tuning chose; None: the engine's own choice")
    group: str | None = Field(default=None, description="rounds with the same one were measured together, in turns")
    alone_because: str | None = Field(default=None, description="why a round was measured with no other in turns")
    pipe_ns: int | None = Field(default=None, description="what an order that does nothing takes, by the conductor")
    params_sha256: str
    workload_sha256: str
    weights_sha256: str | None = None
    record: BackendRecord | None = None
    setup: Setup | None = None
    environment: Environment | None = None
    ceilings: Ceilings | None = Field(default=None, description="measured after the cells of tuning rounds")
    probes: Probes | None = Field(default=None, description="asked after the cells of tuning rounds")
    profile: Profile | None = Field(default=None, description="made last of all in tuning rounds")
    forms: list[FormTime] = Field(default=[], description="of attention, timed after the cells of tuning rounds")
    samples: list[ReferenceSample] = Field(default=[], description="of the reference round")
    noise: Noise | None = None
    n_processes: int = Field(
        default=1, ge=1, description="more than one where a cell ended its process and the rest went on"
    )
    lost: list[LostTry] = Field(default=[], description="tries on a cluster before this one; each began the pair anew")
    tries: list[Try] = Field(default=[], description="that this run folder saw of the round before this one")
    cells: list[Cell]
    events: list[str] = Field(
        default=[], description="what happened to a live server while it was asked: deaths, restarts"
    )
    error: str | None = Field(default=None, description="why the round as a whole failed")

    @property
    def name(self) -> str:
        """File name without its ending; unique in a run."""
        return round_name(self)

    @property
    def taken_seconds(self) -> float:
        """How long it took; of older files by their stamps, and not below 0: a wall clock may be set back."""
        if self.seconds is not None:
            return self.seconds
        between = datetime.fromisoformat(self.finished_utc) - datetime.fromisoformat(self.started_utc)
        return max(0.0, between.total_seconds())

    def cell(self, chunk_size: int, slowdown: float = 1.0) -> Cell | None:
        """The cell of a chunk size, None where the round has none."""
        return next((c for c in self.cells if (c.chunk_size, c.slowdown) == (chunk_size, slowdown)), None)


def round_name(of: Round | PlannedRound) -> str:
    """`<backend>.<view>.<target>.r<index>`, with its role before the index where it measures no side.

    A tuning round whose threads spin has that there: it has a twin whose threads wait passively.

    The colon of `module:attribute` becomes a hyphen: not every file system takes one in a name.
    """
    form = of.role if of.role in ("control", "reference") else ""
    if of.role == "tuning" and of.waiting == "spinning":
        form = "spinning"
    return f"{of.backend.replace(':', '-')}.{of.view}.{of.target}.{form}{'.' if form else ''}r{of.index:02d}"


class PlannedRound(Part):
    """One process to come: what it measures, as what, and its place in the run."""

    index: int
    role: Role
    backend: str
    view: str
    target: str
    position: int
    waiting: Waiting | None = None
    attention: str | None = None

    @property
    def name(self) -> str:
        """The name of its result file."""
        return round_name(self)
