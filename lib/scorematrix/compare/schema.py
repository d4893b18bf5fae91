"""The comparison: everything that a summary may say about a run, as plain data (comparison.json)."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, computed_field

from scorematrix.results.schema import CellStatus, SkipReason

VerdictState = Literal["jax", "pytorch", "tie", "not_enough_evidence", "deferred", "invalid"]
GateStatus = Literal["passed", "failed", "not_run"]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, ser_json_inf_nan="strings")


class Notice(_Part):
    """Something that could not run. Every summary of a run shows every notice."""

    target: str
    label: str
    backend: str
    views: list[str]
    reason: SkipReason
    evidence: str
    next_step: str
    text: str


class Gate(_Part):
    """One condition of a verdict: what was found, beside what is allowed."""

    name: str
    status: GateStatus
    detail: str
    found: dict[str, float] = {}
    allowed: dict[str, float] = {}


class Effect(_Part):
    """A ratio of times with its 95 % interval by paired t over rounds; in a contrast, JAX over PyTorch."""

    ratio: float
    low: float
    high: float
    n_rounds: int
    sd_log: float


class PercentileValue(_Part):
    """A latency percentile (seconds), or that the samples do not carry it."""

    percent: int
    state: Literal["shown", "wide", "suppressed"]
    n: int
    value_seconds: float | None = None
    low_seconds: float | None = None
    high_seconds: float | None = None


class ChunkResult(_Part):
    """One chunk size of one side, over its confirmation rounds. Only `ok` carries figures."""

    chunk_size: int
    status: CellStatus
    error: str | None = None
    n_rounds: int = 0
    items_per_second: float | None = None
    items_per_second_low: float | None = None
    items_per_second_high: float | None = None
    floor_fraction: float | None = Field(None, description="fewest seconds that the ceiling allows, over those taken")
    latency: list[PercentileValue] = []
    peak_host_bytes: int | None = Field(None, description="most that any round took beyond the loaded model")


class Side(_Part):
    """One backend in one view on one target."""

    backend: str
    framework: str
    view: str
    target: str
    state: Literal["measured", "partial", "skipped", "not_started", "failed"]
    device: str | None = None
    dtype: str | None = None
    precision: str | None = None
    fallbacks: list[str] = []
    n_rounds: int = 0
    n_rounds_planned: int = 0
    best_chunk: int | None = None
    chunks: list[ChunkResult] = []
    matmul_flops_per_second: float | None = Field(None, description="the side's own ceiling, median of its rounds")
    copy_bytes_per_second: float | None = None
    compile_seconds: float | None = None
    n_programs: int = 0
    from_cache: int = 0
    max_difference: float | None = None
    mean_difference: float | None = None
    auc: float | None = None


class Matched(_Part):
    """Both sides at the same chunk size: descriptive, never the verdict."""

    chunk_size: int
    effect: Effect | None
    reason: str | None = None


class Contrast(_Part):
    """One question, 'which framework here, in this view?', and its answer."""

    name: str
    kind: Literal["framework", "system"]
    view: str
    jax_target: str
    pytorch_target: str
    jax_chunk: int | None
    pytorch_chunk: int | None
    verdict: VerdictState
    sentence: str
    reason: str
    next_step: str | None
    effect: Effect | None
    more_rounds: int | None = None
    p_adjusted: float | None = Field(None, description="of an effect within the margin, after Holm over the contrasts")
    matched: list[Matched] = []
    matched_ratio: float | None = None
    gates: list[Gate] = []


class Speedup(_Part):
    """A baseline's time over a side's, each at its own best chunk size. Descriptive: no verdict uses it."""

    backend: str
    view: str
    target: str
    baseline: str
    baseline_view: str
    effect: Effect | None = Field(None, description="the baseline's time over the side's: above 1, the side is faster")
    reason: str | None = None


class AuditReport(_Part):
    """What was found of one backend on its own. The gates that could be asked, in the order of asking."""

    backend: str
    view: str
    device: str
    dtype: str
    model: str
    gates: list[Gate]

    @computed_field(description="sound: every gate passed. unsound: one failed. not_proved: one could not run")
    @property
    def verdict(self) -> Literal["sound", "unsound", "not_proved"]:
        found = {gate.status for gate in self.gates}
        return "unsound" if "failed" in found else "not_proved" if "not_run" in found else "sound"


class WorkloadSummary(_Part):
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


class Comparison(_Part):
    """A run, judged. `partial` is true while any notice stands or any planned round is missing."""

    schema_version: Literal[1] = 1
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
    speedups: list[Speedup] = []
    warnings: list[str] = []
