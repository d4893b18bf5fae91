"""Time an engine's forms of attention against each other: the fastest kernel depends on chip, format and shape.

Published figures for one GPU differ by up to 1.9 times between kernels, and their order differs between GPUs. A
tuning round times all forms that its device has; confirmation rounds use the fastest.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence
from typing import Protocol, TypeVar, runtime_checkable

import numpy as np

from scorematrix.scoring.contract import Backend
from scorematrix.workload.request import ScoreRequest

F = TypeVar("F", bound=str)
LAPS = 7
"""Timed calls of each form; the forms alternate."""
APART = 0.02
"""Largest allowed difference from the first form's probabilities; a form beyond it is wrong, not fast."""


@runtime_checkable
class HasForms(Protocol):
    """An engine with several forms of attention."""

    @property
    def attention_forms(self) -> tuple[str, ...]:
        """All forms that the device supports for the number format, the likely fastest first."""
        ...

    def with_attention(self, form: str) -> Backend:
        """Return an engine on the same weights that uses this form."""
        ...


def checked_form(requested: str | None, forms: Sequence[F]) -> F:
    """Return the requested form, or the first of `forms` for None.

    Raises:
        ValueError: for a form that the device does not support.
    """
    for form in forms:
        if requested in (None, form):
            return form
    raise ValueError(f"attention={requested!r} is not supported on this device; choose {', '.join(forms)}")


def time_forms(backend: Backend, request: ScoreRequest) -> dict[str, float | str]:
    """Time a request with every form; the forms alternate.

    Returns:
        Median seconds of a call by form, in the engine's order, or the error of a form that raised or whose scores
        differ. Empty for a backend that has one form only.
    """
    if not isinstance(backend, HasForms) or len(backend.attention_forms) < 2:
        return {}
    engines: dict[str, Backend] = {}
    results: dict[str, float | str] = {}
    expected = None
    for form in backend.attention_forms:
        try:
            engine = backend.with_attention(form)
            engine.prepare([request])
            scores = engine.score(request)
            expected = scores if expected is None else expected
            if not (apart := float(np.abs(scores - expected).max())) <= APART:  # NaN included
                raise ValueError(f"scores differ by {apart:.2g} from those of {next(iter(engines))}")
            engines[form], results[form] = engine, 0.0
        except Exception as error:
            results[form] = f"{type(error).__name__}: {error}"[:400]
    seconds: dict[str, list[float]] = {form: [] for form in engines}
    for lap in range(LAPS):
        for form in list(engines)[:: 1 if lap % 2 else -1]:
            start = time.perf_counter()
            engines[form].score(request)
            seconds[form].append(time.perf_counter() - start)
    return results | {form: statistics.median(taken) for form, taken in seconds.items()}
