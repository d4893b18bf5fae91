"""One chunk size of a round: raw times, scores, and the turns that measured them."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

CellStatus = Literal["ok", "failed", "timeout", "not_run"]

PassSamples = list[list[list[Annotated[int, Field(ge=0)]]]]
"""Nanoseconds of every call: [pass][request][call]."""

RequestScores = list[list[list[float]]]
"""Probabilities: [request][item][label]."""

LEAST_DISTURBED_NS = 20_000_000
"""Two ticks of the clock that counts processor time; less is indistinguishable from none."""


def is_disturbed(others_ns: int, stolen_ns: int, taken_ns: int, disturbed_share: float) -> bool:
    """Return whether others took more than `disturbed_share` of a core during a turn of `taken_ns`."""
    return others_ns + stolen_ns > max(LEAST_DISTURBED_NS, disturbed_share * taken_ns)


class Part(BaseModel):
    """Part of a document: immutable, and unknown fields are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True, ser_json_inf_nan="strings")


class Turn(Part):
    """The calls of one request at one chunk size, made while every other process of the group waits.

    Times are nanoseconds; `None` if not measured, as in a round without a conductor.
    """

    pass_index: int = Field(ge=0, description="index into the cell's `call_ns`")
    request: int = Field(ge=0)
    lap: int = Field(ge=0, description="of the group: turns of one lap and request are consecutive")
    place: int = Field(ge=0, description="position among all turns of the group")
    rest_ns: int | None = Field(
        default=None, description="wait for the last turn's process to be idle, and for others if they disturbed it"
    )
    start_ns: int | None = Field(default=None, description="since the group's first turn, by the conductor's clock")
    conductor_ns: int | None = Field(default=None, description="by the conductor's clock, messages included")
    raw_ns: int | None = Field(default=None, description="by the measuring process's CLOCK_MONOTONIC_RAW")
    untimed_ns: int | None = Field(default=None, description="of the requests before the timed ones, same clock")
    handled_ns: int | None = Field(default=None, description="from the order to its answer, same clock")
    process_ns: int | None = Field(default=None, description="CPU time of the measuring process and its workers")
    others_ns: int | None = Field(default=None, description="CPU time of all other processes, on all cores")
    stolen_ns: int | None = Field(default=None, description="CPU time that the hypervisor took, on all cores")
    fresh_seed: int | None = Field(
        default=None, description="of tokens drawn for this turn; None: the workload's tokens"
    )
    fresh_scores: list[list[float]] | None = Field(default=None, description="[item][label], of the drawn tokens")
    disturbed: bool = Field(default=False, description="other processes took over `disturbed_share` of a core")
    replaced_ns: list[Annotated[int, Field(ge=0)]] | None = Field(
        default=None, description="calls of a disturbed turn that was repeated; `call_ns` has those of the last one"
    )


class Cell(Part):
    """One chunk size of a round. A cell that is not `ok` has no figures, only its status and error text."""

    chunk_size: int
    status: CellStatus
    error: str | None = None
    crashed: bool = Field(default=False, description="the error: its process ended by itself, or memory ran out")
    warmup_ns: PassSamples = []
    call_ns: PassSamples = []
    turns: list[Turn] = Field(
        default=[], description="one per request and pass of `call_ns`, plus those that were replaced"
    )
    repeats: int = Field(default=1, ge=1, description="calls in each timed window; `call_ns` is per call")
    compiles_in_window: int = Field(
        default=0, description="programs compiled while the clock ran; any makes the cell invalid"
    )
    scores: RequestScores = Field(default=[], description="of the last timed pass")
    pass_deviation: float | None = Field(default=None, description="largest difference of a timed pass from `scores`")
    peak_host_bytes: int | None = Field(default=None, description="peak resident memory above the loaded model's")
    computed_tokens: int | None = Field(
        default=None, description="tokens that a pass computes, padding included; None: not reported"
    )
    slowdown: float = Field(default=1.0, ge=1, description="control rounds: factor by which each call was slowed")

    @model_validator(mode="after")
    def _check_turns(self) -> Self:
        for turn in self.turns:
            if turn.pass_index >= len(self.call_ns) or turn.request >= len(self.call_ns[turn.pass_index]):
                raise ValueError(f"chunk {self.chunk_size}: turn {turn.place} is of a pass that call_ns lacks")
        return self
