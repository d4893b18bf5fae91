"""Schema of the comparison: everything that a summary may say about a run, as plain data (comparison.json)."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from scorematrix.compare.effect import Effect, InTurns
from scorematrix.compare.profile import CallProfile
from scorematrix.results.audits import Gate
from scorematrix.results.cells import CellStatus, Part
from scorematrix.results.probes import FormTime
from scorematrix.results.schema import SERVER_VIEW, Waiting
from scorematrix.results.target_records import Attempt, CompiledRecord, Datasheet, SkipReason

VerdictState = Literal["first", "second", "tie", "not_enough_evidence", "deferred", "invalid"]
"""first, second: that side of the contrast is faster."""
ContrastKind = Literal["framework", "server", "system", "backend"]
ItselfVerdict = Literal["tie", "difference", "undecided", "not_run"]
SlowedVerdict = Literal["found", "missed", "undecided", "not_run"]
SideState = Literal["measured", "partial", "skipped", "not_started", "failed"]
StartKind = Literal["compiled", "from_cache", "nothing_to_compile"]
FRAMEWORK_NAMES = {"jax": "JAX", "pytorch": "PyTorch"}


class Notice(Part):
    """A side that could not run. Every summary of a run shows every notice."""

    target: str
    label: str
    backend: str
    views: list[str]
    reason: SkipReason
    evidence: str
    next_step: str
    text: str
    attempts: list[Attempt] = Field(default=[])


class PercentileValue(Part):
    """A latency percentile (seconds), suppressed with too few samples."""

    percent: int
    state: Literal["shown", "wide", "suppressed"]
    n: int
    value_seconds: float | None = None
    low_seconds: float | None = None
    high_seconds: float | None = None


class ChunkResult(Part):
    """One chunk size of one side, over its confirmation rounds. Only `ok` carries figures."""

    chunk_size: int
    status: CellStatus
    error: str | None = None
    n_rounds: int = 0
    items_per_second: float | None = None
    items_per_second_low: float | None = None
    items_per_second_high: float | None = None
    floor_fraction: float | None = Field(default=None, description="least seconds that the ceiling allows, over actual")
    mfu: float | None = Field(default=None, description="operations of a pass's real tokens, over time and ceiling")
    flops_per_second: float | None = Field(default=None, description="operations of a pass's real tokens, over time")
    flops_per_weight_byte: float | None = Field(
        default=None, description="operations of a call's tokens for each byte of weights that it must read once"
    )
    padding_share: float | None = Field(default=None, description="of the tokens that a pass computes")
    latency: list[PercentileValue] = Field(default=[])
    peak_host_bytes: int | None = Field(default=None, description="most that any round took beyond the loaded model")

    @property
    def seconds_a_call(self) -> float | None:
        """Return the mean time of a call; None without a rate."""
        return self.chunk_size / self.items_per_second if self.items_per_second else None


class Control(Part):
    """The sides of one target compared with themselves in fresh processes, unchanged and slowed by a known share."""

    backend: str = Field(description="the sides, which alternate: jax and pytorch")
    view: str
    target: str
    chunk_size: int | None
    slowdown: float | None = Field(None, description="intended time ratio, slowed over unchanged")
    itself: Effect | None
    itself_verdict: ItselfVerdict
    slowed: Effect | None
    slowed_verdict: SlowedVerdict
    margin: float = Field(description="the params', or the largest bias that the A/A interval allows, if larger")


class Start(Part):
    """Seconds spent before the first request, by kind of start."""

    kind: StartKind
    n_rounds: int
    load_seconds: float = Field(description="model and backend")
    trace_seconds: float
    compile_seconds: float
    other_seconds: float = Field(description="the rest of preparing: first runs, and reading caches")
    n_programs: int


class OfSide(Part):
    """What identifies a side: one backend in one view on one target."""

    backend: str
    view: str
    target: str

    @property
    def key(self) -> tuple[str, str, str]:
        """Return backend, view and target."""
        return self.backend, self.view, self.target


class Side(OfSide):
    """What was measured of a side."""

    framework: str
    software: str | None = Field(None, description="of a live server: what it said that it is")
    state: SideState
    device: str | None = None
    dtype: str | None = None
    precision: str | None = None
    fallbacks: list[str] = Field(default=[])
    n_rounds: int = 0
    n_rounds_planned: int = 0
    best_chunk: int | None = None
    waiting: Waiting | None = Field(default=None, description="thread waiting chosen in tuning; None: no such pool")
    attention: str | None = Field(default=None, description="form that tuning chose; None: the engine's default")
    forms: list[FormTime] = Field(default=[], description="attention forms that a tuning round timed; empty: only one")
    chunks: list[ChunkResult] = Field(default=[])
    matmul_flops_per_second: float | None = Field(None, description="the side's measured ceiling, median of its rounds")
    copy_bytes_per_second: float | None = None
    profile: CallProfile | None = Field(None, description="from a tuning round")
    datasheet: Datasheet | None = None
    starts: list[Start] = Field(default=[])
    max_difference: float | None = None
    mean_difference: float | None = None
    auc: float | None = None
    tau_b: float | None = Field(None, description="Kendall's tau-b with the reference, the lowest of any chunk size")
    top_overlap: dict[int, float] = Field({}, description="lowest share of the reference's top 1, 3, 10 kept")
    label_flips: int | None = Field(None, description="items whose likeliest label differs, the most at any chunk size")
    neighbours_moved: float | None = Field(None, description="largest change of a score with other neighbours")
    chunks_moved: float | None = Field(None, description="largest change of a score between chunk sizes")
    tuning_configurations: int = 0
    tuning_seconds: float = 0.0
    steadiness: dict[str, int] = Field({}, description="confirmation rounds by class; empty: too few passes")
    usd_per_million_items: float | None = Field(None, description="only where the params give a price")
    watts: float | None = Field(None, description="mean power of the GPUs while cells were measured")

    @property
    def name(self) -> str:
        """Return its short name: backend and view; of a live server, its name in the params and what it is."""
        if self.software is None:
            return f"{self.backend} {self.view}"
        return self.software if self.backend in self.software else f"{self.backend}: {self.software}"

    @property
    def form_times(self) -> str:
        """Return the time of each form of attention that a tuning round timed, the chosen one first; else nothing."""
        chosen = self.attention or (self.forms[0].form if self.forms else "")
        listed = sorted(self.forms, key=lambda f: (f.form != chosen, f.seconds is None, f.seconds or 0.0))
        return ", ".join(
            f"{f.form} {float(f'{f.seconds * 1e3:.3g}'):,g} ms" if f.seconds else f"{f.form} failed" for f in listed
        )


class Matched(Part):
    """Both sides at the same chunk size: descriptive, never the verdict."""

    chunk_size: int
    effect: Effect | None
    reason: str | None = None


class Opponent(OfSide):
    """One side of a contrast.

    Attributes:
        name: its name in params and verdict: `jax`, `pytorch`, or the backend's name.
        software: what a live server said that it is; None: it did not say, or the side is no server.
    """

    name: str
    chunk: int | None = None
    software: str | None = None

    @property
    def label(self) -> str:
        """Return its name in sentences: a server's own, never that of the framework whose place it takes."""
        if self.view == SERVER_VIEW:
            return self.software or f"{self.backend} server"
        return FRAMEWORK_NAMES.get(self.name, self.name)


class Contrast(Part):
    """One question, 'which of the two is faster here, in this view?', and its answer."""

    name: str
    kind: ContrastKind = Field(
        description="same device: two frameworks, servers or backends; different devices: two systems"
    )
    view: str
    first: Opponent
    second: Opponent
    verdict: str = Field(description="the winner's name, or tie, not_enough_evidence, deferred, invalid")
    sentence: str
    reason: str
    next_step: str | None
    effect: Effect | None
    in_turns: InTurns | None = Field(None, description="None: no pair of its rounds was measured in turns")
    more_rounds: int | None = None
    wants_rounds: bool = Field(False, description="whether rounds beyond the planned count could change the verdict")
    margin: float = Field(0.03, description="as a fraction; the params', or more if the controls scatter")
    n_rounds: int = Field(0, description="confirmation rounds per side at this look")
    break_even_items: float | None = Field(
        None, description="items scored before the slower-to-compile side catches up; None: it never does"
    )
    p_adjusted: float | None = Field(
        default=None, description="p of an effect within the margin, after looks (Bonferroni) and contrasts (Holm)"
    )
    matched: list[Matched] = Field(default=[])
    matched_ratio: float | None = None
    gates: list[Gate] = Field(default=[])

    @property
    def ratio_name(self) -> str:
        """Return the name of the ratio in `effect`."""
        return f"{self.first.label} time / {self.second.label} time"

    @property
    def winner(self) -> Opponent | None:
        """Return the side that the verdict names; None if it names none."""
        return next((side for side in (self.first, self.second) if side.name == self.verdict), None)

    @property
    def outcome(self) -> str:
        """Return the verdict, but `winner` if it names a server: no framework won, and a server's name is long."""
        return "winner" if self.winner and self.kind == "server" else self.verdict

    @property
    def keys(self) -> tuple[tuple[str, str, str], tuple[str, str, str]]:
        """Return backend, view and target of both sides, the first side's first."""
        return self.first.key, self.second.key


class Speedup(OfSide):
    """A baseline's time over a side's, each at its best chunk size. Descriptive: no verdict uses it."""

    baseline: str
    baseline_view: str
    effect: Effect | None = Field(None, description="the baseline's time over the side's: above 1, the side is faster")
    reason: str | None = None


class WorkloadSummary(Part):
    """What was scored."""

    name: str
    origin: str
    sha256: str
    apply_softmax: bool
    n_requests: int
    n_items: int
    n_tokens: int
    query_tokens: list[int]
    item_tokens: list[int]


class Comparison(Part):
    """A judged run. `partial` is true while it has any notice or lacks any planned round."""

    schema_version: Literal[4] = 4
    run_id: str
    created_utc: str
    compared_utc: str
    params: dict
    params_sha256: str
    weights_sha256: str | None
    workload: WorkloadSummary
    machine: str
    partial: bool
    rounds_done: int
    rounds_planned: int
    notices: list[Notice]
    contrasts: list[Contrast]
    sides: list[Side]
    speedups: list[Speedup] = Field(default=[])
    controls: list[Control] = Field(default=[])
    compiled: list[CompiledRecord] = Field([], description="cells that were compiled without a device, not measured")
    looks: list[int] = Field([], description="counts of confirmation rounds at which a verdict may fall")
    warnings: list[str] = Field(default=[])

    @property
    def settled(self) -> bool:
        """Return whether no further round could change a verdict."""
        return not any(contrast.wants_rounds for contrast in self.contrasts)
