"""One chunk size of a round: raw times and scores, and the turns in which they were taken."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

CellStatus = Literal["ok", "failed", "timeout", "not_run"]

PassSamples = list[list[list[Annotated[int, Field(ge=0)]]]]
"""Nanoseconds of every call: [pass][request][call]."""

RequestScores = list[list[list[float]]]
"""Probabilities: [request][item][label]."""


class Part(BaseModel):
    """A piece of a document: frozen, and of known fields only."""

    model_config = ConfigDict(extra="forbid", frozen=True, ser_json_inf_nan="strings")


class Turn(Part):
    """The calls of one request at one chunk size, made while every other process of the group waits.

    Times are nanoseconds; `None` where nobody could tell, as in a round that nobody conducted.
    """

    pass_index: int = Field(ge=0, description="of the cell's `call_ns`")
    request: int = Field(ge=0)
    lap: int = Field(ge=0, description="of the group: turns of one lap and request stand beside each other")
    place: int = Field(ge=0, description="in the order of all turns of the group")
    start_ns: int | None = Field(default=None, description="since the group's first turn, by the conductor's clock")
    conductor_ns: int | None = Field(default=None, description="by the conductor's clock, what messages cost included")
    raw_ns: int | None = Field(default=None, description="by the measuring process's CLOCK_MONOTONIC_RAW")
    untimed_ns: int | None = Field(default=None, description="of calls before the timed ones, by the same clock")
    handled_ns: int | None = Field(default=None, description="from the order to its answer, by the same clock")
    process_ns: int | None = Field(default=None, description="processor time of the measuring process and its workers")
    others_ns: int | None = Field(default=None, description="processor time of all others, on all cores")
    stolen_ns: int | None = Field(default=None, description="that the machine below took, on all cores")
    fresh_seed: int | None = Field(
        default=None, description="of tokens that were drawn for this turn; None: workload's"
    )
    fresh_scores: list[list[float]] | None = Field(default=None, description="[item][label], of drawn tokens")
    disturbed: bool = Field(default=False, description="others took more than `disturbed_share` of a core")
    replaced_ns: list[Annotated[int, Field(ge=0)]] | None = Field(
        default=None, description="of a disturbed turn that was made again: its calls; those of the last are in call_ns"
    )


class Cell(Part):
    """One chunk size of a round. Not `ok` means no figure: the reason and the error's text stand instead."""

    chunk_size: int
    status: CellStatus
    error: str | None = None
    warmup_ns: PassSamples = []
    call_ns: PassSamples = []
    turns: list[Turn] = Field(
        default=[], description="one a request and pass of `call_ns`, and those that were replaced"
    )
    repeats: int = Field(default=1, ge=1, description="calls made in each timed window; `call_ns` is the share of one")
    compiles_in_window: int = Field(
        default=0, description="programs made while the clock ran; any makes the cell invalid"
    )
    scores: RequestScores = Field(default=[], description="what the last timed pass returned")
    pass_deviation: float | None = Field(default=None, description="largest difference of any timed pass from `scores`")
    peak_host_bytes: int | None = Field(default=None, description="peak of resident memory beyond the loaded model's")
    computed_tokens: int | None = Field(
        default=None, description="tokens a pass computes, padding included; None: not told"
    )
    slowdown: float = Field(
        default=1.0, ge=1, description="control rounds: how many times its time each call was made to take"
    )
