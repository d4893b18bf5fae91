"""Connect to a round's live server, or start it, as the params say. Its output is kept in the run folder."""

from __future__ import annotations

from typing import TYPE_CHECKING

from scorematrix.matrix.params import Params
from scorematrix.models.catalogue import Model
from scorematrix.privacy import printable, redacted
from scorematrix.readiness.targets import target
from scorematrix.results import PlannedRound, RunStore

if TYPE_CHECKING:
    from scorematrix.scoring.server import LiveBackend


def load_live(params: Params, planned: PlannedRound, model: Model, store: RunStore) -> LiveBackend:
    """Return the server of a planned round, ready to answer.

    Raises:
        RuntimeError: if it did not start or does not answer.
        ValueError: if it serves other weights or another number format.
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
    """Stop the server if the round started it, and redact its output."""
    live.close()
    store.redact_log(planned.name, lambda log: printable(redacted(log)))
