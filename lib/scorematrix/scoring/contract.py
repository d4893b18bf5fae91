"""The Backend protocol, which engines, baselines and server clients implement."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float

from scorematrix.workload.request import ScoreRequest

DType = Literal["float32", "bfloat16"]
AskedDType = Literal["auto", "float32", "bfloat16"]
"""auto: the fastest format that passes the numerics gate on the device."""
Scores = Float[np.ndarray, "n_items n_labels"]


class RequestRejected(ValueError):
    """A live server rejected the request as invalid (400, 404, 413, 422); the message quotes its error."""


@dataclass(frozen=True)
class BackendInfo:
    """What was loaded; recorded with every result.

    Attributes:
        precision: description of the float format that matrix products really use (rule 31).
        settings: everything else that could change speed or scores.
        fallbacks: requested options that were not available, each with the reason; empty if there are none.
        softmax_only: it serves `apply_softmax=True` only and rejects False.
    """

    backend: str
    view: str
    framework: str
    device: str
    dtype: DType
    precision: str
    settings: dict[str, str | int | float | bool] = field(default_factory=dict)
    fallbacks: tuple[str, ...] = ()
    softmax_only: bool = False


@dataclass(frozen=True)
class CompileEvent:
    """One program that was compiled or read from a cache: its shape key, and where the time went (seconds)."""

    program: str
    trace_seconds: float
    compile_seconds: float
    from_cache: bool


def checked_scores(scores: object, request: ScoreRequest, backend: str = "") -> Scores:
    """Return a backend's scores after checking their type, shape and dtype against the request.

    Args:
        backend: its name, for the message.

    Raises:
        ValueError: naming the actual result, the expected one and the remedy.
    """
    wanted = (len(request.items_ids), len(request.label_ids))
    if type(scores) is np.ndarray and scores.shape == wanted and scores.dtype == np.float32:
        return scores
    who = f"backend {backend!r}" if backend else "backend"
    if type(scores) is not np.ndarray:  # a subclass may compute when it is read
        got, remedy = type(scores).__name__, "return a plain numpy.ndarray"
    elif scores.shape != wanted:
        got, remedy = f"shape {scores.shape}", "return one row per item and one column per label"
    else:
        got, remedy = f"{scores.dtype} {scores.shape}", "add .astype(numpy.float32)"
    raise ValueError(f"{who} returned {got}; expected a float32 array {wanted} on the host; {remedy}")


def finite_scores(scores: Scores, backend: str) -> Scores:
    """Return the scores if all are finite. For code that shows scores or sends them on.

    Rounds keep scores with NaN or infinity: the gate `finite` rejects them, and the report shows them.

    Raises:
        ValueError: naming the first item with a score that is not finite.
    """
    if np.isfinite(scores).all():
        return scores
    item = int(np.argmin(np.isfinite(scores).all(axis=1)))
    raise ValueError(
        f"backend {backend!r} returned {scores[item].tolist()} for item {item}; scores must be finite: look for "
        "NaN or infinity in its weights and its softmax"
    )


@runtime_checkable
class Backend(Protocol):
    """Scores requests on one device. Not thread safe.

    `prepare` makes every program that the requests need; a `score` after it compiles nothing.
    `compile_events` grows whenever a program is made, so a caller can detect an unexpected compile.
    A backend that pads may have `computed_tokens(request) -> int`: the tokens that a call computes, padding included.
    One that compiles a program for each shape is a `CompilesPerShape` too.
    """

    info: BackendInfo
    compile_events: list[CompileEvent]

    def prepare(self, requests: Sequence[ScoreRequest]) -> None:
        """Compile what these requests need, without scoring them."""
        ...

    def score(self, request: ScoreRequest) -> Scores:
        """Return probabilities, float32 [n_items, n_labels], on the host when the call returns.

        Raises:
            ValueError: for ids outside the model's vocabulary.
        """
        ...


@runtime_checkable
class CompilesPerShape(Protocol):
    """A backend that compiles a program for each padded shape.

    Attributes:
        most_programs: how many of them it keeps, the most recently used; None keeps all.
    """

    most_programs: int | None
