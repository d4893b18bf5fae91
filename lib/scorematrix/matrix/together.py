"""Which rounds of a group can be alive at the same time, and why others cannot."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import psutil

from scorematrix.matrix.params import Params
from scorematrix.matrix.turns import baselines_of
from scorematrix.measure.noise import waiting_shares
from scorematrix.models import read_description
from scorematrix.readiness.targets import target
from scorematrix.results import PlannedRound, RunStore
from scorematrix.scoring import backend_entry

PROCESS_BYTES = 1.2e9
"""Approximate memory of a process without the weights: framework, programs and a call's activations."""
WEIGHT_COPIES = 2
"""Copies of the weights in a process: the arrays read from the file, the framework's."""
TRIES = 3
"""Looks at waiting servers: one that has just started may still be busy in the first."""
WHILE_IT_WAITS = "of a core while it waits for requests"
"""Part of the reason of rounds that `check_waiting` separated."""


class ComputesWhileWaiting(Exception):
    """A member of a group would disturb the turns of the others; the text names it and its share of a core."""


def parts_of(
    params: Params, store: RunStore, group: Sequence[PlannedRound]
) -> list[tuple[list[PlannedRound], str | None]]:
    """Split a group into rounds that can be alive at the same time, each part with the reason, None for the whole.

    If there is no room for all, those that verdicts compare stay together and each baseline is measured alone.
    """
    apart = alone_because(params, group) or _separated_before(store, group)
    if apart is None:
        return [(list(group), None)]
    baselines = baselines_of(params, group)
    compared = [planned for planned in group if planned.name not in baselines]
    if len(compared) in (0, len(group)) or alone_because(params, compared) or _separated_before(store, compared):
        return [([planned], apart) for planned in group]
    return [(compared, None), *(([planned], apart) for planned in group if planned.name in baselines)]


def alone_because(params: Params, group: Sequence[PlannedRound]) -> str | None:
    """Return why these rounds cannot be alive at the same time; None if they can."""
    if len(group) == 1:
        return "no other round is measured on its target in its view"
    kind = target(group[0].target).kind
    places = [params.places.get(planned.backend) for planned in group]
    launched = [place for place in places if place is not None and place.launch is not None]
    n_here = sum(place is None for place in places) + len(launched)  # the others run already
    if kind == "tpu" and n_here > 1:
        return "only one process at a time can use a TPU"
    if kind == "gpu" and n_here > 1 and not all(place.shares_gpu for place in launched):
        return "a launched server usually takes most of a GPU's memory; if its flags leave room, set shares_gpu"
    weight_bytes = 4 * read_description(params.model).config.n_params
    n = len(group) + len(launched)  # a launched server and its client
    need = n * (WEIGHT_COPIES * weight_bytes + PROCESS_BYTES)
    if (available := psutil.virtual_memory().available) < need:
        return f"{n} processes need about {need / 1e9:.0f} GB of memory, {available / 1e9:.0f} GB are free"
    return None


def check_waiting(params: Params, group: Sequence[PlannedRound], pids: Mapping[str, Sequence[int]]) -> None:
    """Check that live servers use no core between requests, as our engines do. Some poll for requests in a loop.

    Args:
        pids: process ids by round name, of rounds that are ready for their first turn.

    Raises:
        ComputesWhileWaiting: if together they would make every turn a disturbed one.
    """
    if len(group) == 1 or not any(backend_entry(planned.backend).is_live for planned in group):
        return
    for _ in range(TRIES):
        shares = waiting_shares(pids)
        if sum(shares.values()) <= params.disturbed_share:
            return
    busiest = max(shares, key=shares.__getitem__)
    (backend,) = (planned.backend for planned in group if planned.name == busiest)
    raise ComputesWhileWaiting(f"{backend} takes {shares[busiest]:.0%} {WHILE_IT_WAITS}")


def _separated_before(store: RunStore, group: Sequence[PlannedRound]) -> str | None:
    """Return why an earlier group of the same backends was separated, so that the servers are not started in vain."""
    if not any(backend_entry(planned.backend).is_live for planned in group):
        return None
    sides = {(planned.backend, planned.view, planned.target) for planned in group}
    reasons = (r.alone_because or "" for r in store.rounds() if (r.backend, r.view, r.target) in sides)
    return next((reason for reason in reasons if WHILE_IT_WAITS in reason), None)
