"""A round's live server: found or started as the params say, its output kept beside the run's other files."""

from __future__ import annotations

from typing import TYPE_CHECKING

from scorematrix.matrix.params import Params
from scorematrix.models.catalogue import Model
from scorematrix.privacy import redacted
from scorematrix.readiness.targets import target
from scorematrix.results import PlannedRound, RunStore

if TYPE_CHECKING:
    from scorematrix.scoring.server import LiveBackend


def load_live(params: Params, planned: PlannedRound, model: Model, store: RunStore) -> LiveBackend:
    """The server of a planned round, answering.

    Raises:
        RuntimeError: it did not start, or does not answer.
        ValueError: it serves other weights, or another number format.
    """
    from scorematrix.scoring.server import LiveBackend

    assert params.dtype != "auto"  # Params refuses it with servers
    return LiveBackend(
        planned.backend,
        params.places[planned.backend],
        model=model,
        dtype=params.dtype,
        device=target(planned.target).kind,
        log=store.log_path(planned.name),
        timeout_seconds=params.call_timeout_seconds,
    )


def end_live(live: LiveBackend, store: RunStore, planned: PlannedRound) -> None:
    """Stop the server if the round started it, and take out of its output what gives somebody away."""
    live.close()
    store.redact_log(planned.name, redacted)
