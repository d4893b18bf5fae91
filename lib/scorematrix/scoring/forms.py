"""Time an engine's forms of attention against each other: which kernel is fastest depends on chip, format and shape.

Published figures for one GPU differ by up to 1.9 times between kernels, and their order differs between GPUs. A
tuning round times all forms that its device has; confirmation rounds use the fastest.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence
from typing import NamedTuple, Protocol, TypeVar, runtime_checkable

import numpy as np

from scorematrix.scoring.contract import Backend
from scorematrix.workload.request import ScoreRequest

F = TypeVar("F", bound=str)
LAPS = 7
"""Calls of each form, in turns."""
APART = 0.02
"""Largest difference from the first form's probabilities; a form beyond it is wrong, not fast."""


class FormTime(NamedTuple):
    """How long a form takes.

    Attributes:
        seconds: median of a call; None for a form that failed.
        error: why it failed.
    """

    form: str
    seconds: float | None
    error: str | None = None


@runtime_checkable
class HasForms(Protocol):
    """An engine with several forms of attention."""

    @property
    def attention_forms(self) -> tuple[str, ...]:
        """All that the device has for the number format, the one that is likely fastest first."""
        ...

    def with_attention(self, form: str) -> Backend:
        """Return an engine on the same weights that uses a form."""
        ...


def checked_form(asked: str | None, forms: Sequence[F]) -> F:
    """Return the form that was asked for, or the first.

    Raises:
        ValueError: for one that the device does not have.
    """
    for form in forms:
        if asked in (None, form):
            return form
    raise ValueError(f"attention={asked!r} is not a form that this device has; choose {', '.join(forms)}")


def time_forms(backend: Backend, request: ScoreRequest) -> list[FormTime]:
    """Score a request with every form in turns. Empty for a backend that has one form only.

    A form that raises, or whose scores differ, is recorded with its error and takes no further part.
    """
    if not isinstance(backend, HasForms) or len(backend.attention_forms) < 2:
        return []
    engines: dict[str, Backend] = {}
    errors: dict[str, str] = {}
    expected = None
    for form in backend.attention_forms:
        try:
            engine = backend.with_attention(form)
            engine.prepare([request])
            scores = engine.score(request)
            expected = scores if expected is None else expected
            if not (apart := float(np.abs(scores - expected).max())) <= APART:  # NaN included
                raise ValueError(f"scores differ by {apart:.2g} from those of {next(iter(engines))}")
            engines[form] = engine
        except Exception as error:
            errors[form] = f"{type(error).__name__}: {error}"[:400]
    seconds: dict[str, list[float]] = {form: [] for form in engines}
    for lap in range(LAPS):
        for form in list(engines)[:: 1 if lap % 2 else -1]:
            start = time.perf_counter()
            engines[form].score(request)
            seconds[form].append(time.perf_counter() - start)
    return [
        FormTime(form, statistics.median(seconds[form]) if form in seconds else None, errors.get(form))
        for form in backend.attention_forms
    ]
