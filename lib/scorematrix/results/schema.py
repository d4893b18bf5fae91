"""Documents of a run, with version and checksum. They store raw samples; statistics are computed from these."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Literal

from pydantic import Field

from scorematrix.checksum import SealedDocument
from scorematrix.results.cells import Cell, Part
from scorematrix.results.probes import Ceilings, FormTime, Probes, Profile, ReferenceSample
from scorematrix.wings import wing

SCHEMA_VERSION = 2
"""Version of the files. A newer one is refused; older ones still load.
2 added control rounds, probes and the record of noise."""

ROUND_VERSION = 4
"""Version of round files. 3 added the profile, 4 the turns."""

PROTOCOL = "2"
"""Version of the measuring protocol. Rounds of different protocols are never compared. 2: rounds take turns."""

MOST_ROUNDS = 99
"""Most confirmation rounds of a run."""
UNTIL_DECIDED_TIMES = 8
"""`run --until-decided` stops at this many times `rounds`."""

_servers = wing("servers")
SIDES: dict[str, Literal["jax", "pytorch"]] = {
    "jax": "jax",
    "pytorch": "pytorch",
    **(_servers.FRAMEWORKS if _servers else {}),
}
"""The framework that a backend represents in a comparison: our engines against each other, live servers against each
other. Any other backend is a baseline."""
Opposed = tuple[str, str]
"""One side of a comparison in params: a framework or a backend, and its target."""


def opposed(comparison: Mapping[str, str]) -> tuple[Opposed, Opposed]:
    """Return both sides of a comparison in params: JAX before PyTorch, others in the order written.

    Raises:
        ValueError: if there are not exactly two sides.
    """
    first, second = comparison.items()
    return (second, first) if (first[0], second[0]) == ("pytorch", "jax") else (first, second)


def stands_for(side: str, backend: str) -> bool:
    """Return whether a backend belongs to a side, which params name by framework or by backend."""
    return side == backend or SIDES.get(backend) == side


SERVER_VIEW = "server"
"""The only view of live servers: how they compute is not visible from outside."""

Waiting = Literal["spinning", "passive"]
"""How idle OpenMP threads wait. spinning: busy on their core for a while, the library's default and the fastest on a
quiet machine. passive: asleep, which other processes' work does not slow down."""

Role = Literal["tuning", "confirm", "control", "reference"]
"""tuning: chooses each side's chunk size. confirm: measures it in fresh processes. control: compares a backend with
itself, and with itself slowed. reference: exact scores, never timed."""


class Compile(Part):
    """One program compiled or loaded before timing (seconds)."""

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
    load_average: float = Field(description="mean runnable tasks in the minute before the round")
    platform: str
    python: str
    packages: dict[str, str]
    variables: dict[str, str] = Field(description="environment variables from an allow-list")
    git_commit: str | None
    git_dirty: bool | None


class GpuNoise(Part):
    """GPU state as reported before and after the cells of a round."""

    name: str
    driver: str
    power_limit_watts: float | None = None
    clock_mhz: list[float] = Field(default=[])
    temperature_celsius: list[float] = Field(default=[])
    slowdowns: list[str] = Field(default=[], description="hardware or thermal reasons for a reduced clock")
    other_processes: int | None = None
    energy_joules: float | None = Field(default=None, description="between the two; see `Noise.seconds`")


class Noise(Part):
    """Interference between the first and the last cell of a round (rules 19 and 20)."""

    seconds: float
    load_average: float = Field(description="mean runnable tasks in a minute, read after the cells")
    others_share: float | None = Field(default=None, description="of this process's cores: taken by other processes")
    stolen_share: float | None = Field(default=None, description="of this process's cores: taken by the hypervisor")
    cpu_mhz: list[float] = Field(default=[], description="mean core clock, before and after; empty: not reported")
    throttle_events: int | None = Field(
        default=None, description="thermal throttling events of the cores; None: no counter"
    )
    gpus: list[GpuNoise] = Field(default=[])


class BackendRecord(Part):
    """A backend as it describes itself: see `scoring.BackendInfo`."""

    framework: str
    device: str
    dtype: str
    precision: str
    settings: dict[str, str | int | float | bool] = Field(default={})
    fallbacks: list[str] = Field(default=[])


class LostTry(Part):
    """A try of a round that was lost with its node or with the connection to it."""

    at_utc: str
    node: str = Field(description="the cluster's short id, never a host name")
    reason: str


class Try(Part):
    """An earlier try of a round in the same run folder, from the folder's journal."""

    begun_utc: str
    outcome: Literal["sound", "failed", "crashed", "lost", "unfinished"] = Field(
        description="sound: every cell was measured; crashed: a process ended, or memory ran out; unfinished: "
        "the run ended before the try did"
    )


class Round(SealedDocument):
    """Result of one fresh process that measured one (backend, view) on one target over its chunk sizes."""

    schema_version: Literal[1, 2, 3, 4] = ROUND_VERSION
    protocol: str = PROTOCOL
    run_id: str
    index: int
    role: Role
    backend: str
    view: str
    target: str
    position: int = Field(description="in the run's order of execution")
    started_utc: str
    finished_utc: str
    seconds: float | None = Field(default=None, ge=0, description="duration by a monotonic clock; None: older files")
    waiting: Waiting | None = Field(default=None, description="of its OpenMP threads; None: it has none")
    attention: str | None = Field(default=None, description="form that tuning chose; None: the engine's default")
    group: str | None = Field(default=None, description="rounds of one group were measured together, in turns")
    alone_because: str | None = Field(default=None, description="why it took no turns with other rounds")
    pipe_ns: int | None = Field(default=None, description="time of an empty order, by the conductor's clock")
    params_sha256: str
    workload_sha256: str
    weights_sha256: str | None = None
    record: BackendRecord | None = None
    setup: Setup | None = None
    environment: Environment | None = None
    ceilings: Ceilings | None = Field(default=None, description="measured after the cells of tuning rounds")
    probes: Probes | None = Field(default=None, description="measured after the cells of tuning rounds")
    profile: Profile | None = Field(default=None, description="made last in tuning rounds")
    forms: list[FormTime] = Field(default=[], description="of attention, timed after the cells of tuning rounds")
    samples: list[ReferenceSample] = Field(default=[], description="of the reference round")
    noise: Noise | None = None
    n_processes: int = Field(
        default=1, ge=1, description="more than one if a cell killed its process and a new one measured the rest"
    )
    lost: list[LostTry] = Field(default=[], description="earlier tries on a cluster; each restarted the pair")
    tries: list[Try] = Field(default=[], description="earlier tries of the round in this run folder")
    cells: list[Cell]
    events: list[str] = Field(default=[], description="events of a live server during the round: deaths, restarts")
    error: str | None = Field(default=None, description="why the entire round failed")

    @property
    def name(self) -> str:
        """File name without suffix; unique in a run."""
        return round_name(self)

    @property
    def reuses_prefix(self) -> bool:
        """Whether the backend kept queries between calls."""
        return self.record is not None and bool(self.record.settings.get("reuse_prefix"))

    @property
    def taken_seconds(self) -> float:
        """Duration. Older files: from wall-clock timestamps, at least 0 because that clock may be set back."""
        return self.seconds if self.seconds is not None else max(0.0, self._wall_seconds)

    @property
    def clock_was_set_back(self) -> bool:
        """Whether the round ended before it began, by the wall clock."""
        return self._wall_seconds < 0

    @property
    def _wall_seconds(self) -> float:
        between = datetime.fromisoformat(self.finished_utc) - datetime.fromisoformat(self.started_utc)
        return between.total_seconds()

    def cell(self, chunk_size: int, slowdown: float = 1.0) -> Cell | None:
        """Return the cell of a chunk size and slowdown, None if the round has none."""
        return next((c for c in self.cells if (c.chunk_size, c.slowdown) == (chunk_size, slowdown)), None)


def round_name(of: Round | PlannedRound) -> str:
    """Return `<backend>.<view>.<target>.r<index>`; control and reference rounds have their role before the index.

    A tuning round with spinning threads has `spinning` there, because its twin waits passively.

    The colon of `module:attribute` becomes a hyphen, because not every file system allows colons in names.
    """
    form = of.role if of.role in ("control", "reference") else ""
    if of.role == "tuning" and of.waiting == "spinning":
        form = "spinning"
    return f"{of.backend.replace(':', '-')}.{of.view}.{of.target}.{form}{'.' if form else ''}r{of.index:02d}"


class PlannedRound(Part):
    """A round to be measured: what it measures, in which role, and its position in the run."""

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
        """Name of its result file."""
        return round_name(self)


def differs(planned: PlannedRound, round_: Round) -> str | None:
    """Return the first field, and both values, in which a round is not the planned one; None: it is."""
    for field in ("index", "role", "backend", "view", "target", "position", "waiting"):
        ours, its = getattr(planned, field), getattr(round_, field)
        if ours != its and (field != "waiting" or ours is not None):  # the plan leaves it to tuning
            return f"{field}={its!r}, planned {ours!r},"
    return None


class Manifest(SealedDocument):
    """Params, plan and hashes, fixed before the first round."""

    schema_version: Literal[1, 2] = SCHEMA_VERSION
    run_id: str
    created_utc: str
    scorematrix: str
    params: dict
    params_sha256: str
    workload_sha256: str
    floor_flops: int | None = Field(default=None, description="fewest operations that score the workload once exactly")
    call_flops: dict[int, int] = Field(
        default={}, description="by chunk size: operations of a pass, with the query once per call"
    )
    call_tokens: dict[int, int] = Field(
        default={}, description="by chunk size: real tokens of a pass, with the query once per call"
    )
    plan: list[PlannedRound]

    @property
    def given_servers(self) -> set[str]:
        """Backends that are servers at a given URL: the run did not start them."""
        return {choice["backend"] for choice in self.params["backends"] if (choice.get("server") or {}).get("url")}
