"""What a backend is: the one protocol that engines, baselines and server clients keep."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float

from scorematrix.workload.request import ScoreRequest

DType = Literal["float32", "bfloat16"]
Scores = Float[np.ndarray, "n_items n_labels"]


@dataclass(frozen=True)
class BackendInfo:
    """What was loaded, as it is recorded with every result.

    Attributes:
        precision: what the float format of matrix products really is, in words (rule 31).
        settings: everything else that could change speed or scores.
        fallbacks: what was asked for and could not be had, with the reason; empty where all is as asked.
    """

    backend: str
    view: str
    framework: str
    device: str
    dtype: DType
    precision: str
    settings: dict[str, str | int | float | bool] = field(default_factory=dict)
    fallbacks: tuple[str, ...] = ()


@dataclass(frozen=True)
class CompileEvent:
    """One program made ready: its shape key, and where the time went (seconds)."""

    program: str
    trace_seconds: float
    compile_seconds: float
    from_cache: bool


def checked_scores(scores: Scores, request: ScoreRequest) -> Scores:
    """What a backend answered, once it is what the protocol promises for the request.

    Raises:
        ValueError: naming what came back and what is due.
    """
    wanted = (len(request.items_ids), len(request.label_ids))
    if not isinstance(scores, np.ndarray) or scores.shape != wanted or scores.dtype != np.float32:
        got = f"{scores.dtype} {scores.shape}" if isinstance(scores, np.ndarray) else type(scores).__name__
        raise ValueError(f"backend returned {got} where a float32 array {wanted} on the host is due")
    return scores


@runtime_checkable
class Backend(Protocol):
    """Scores requests on one device. Not thread safe.

    `prepare` makes every program that the requests need; a `score` after it compiles nothing.
    `compile_events` grows whenever a program is made, so that a caller can see a compile where none belongs.
    One that pads may have `computed_tokens(request) -> int`: the tokens that a call computes, padding included.
    """

    info: BackendInfo
    compile_events: list[CompileEvent]

    def prepare(self, requests: Sequence[ScoreRequest]) -> None:
        """Compile what these requests need, without scoring them."""
        ...

    def score(self, request: ScoreRequest) -> Scores:
        """Probabilities, float32 [n_items, n_labels], on the host when the call returns.

        Raises:
            ValueError: for ids outside the model's vocabulary.
        """
        ...
