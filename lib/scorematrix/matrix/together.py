"""Which rounds of a group can be alive at the same time, and why others cannot."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import psutil

from scorematrix.matrix.params import Params
from scorematrix.matrix.turns import baselines_of
from scorematrix.measure.noise import waiting_shares
from scorematrix.measure.process import processes_at
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
"""Part of the reason of a server that `check_waiting` found."""
Part = tuple[list[PlannedRound], str | None]
"""Rounds that are alive at the same time, and why others of their group are not; None if all are."""


class ComputesWhileWaiting(Exception):
    """Servers of a group would disturb the turns of the others.

    Attributes:
        reasons: by backend.
    """

    def __init__(self, reasons: Mapping[str, str]) -> None:
        super().__init__("; ".join(reasons.values()))
        self.reasons = dict(reasons)


def parts_of(params: Params, group: Sequence[PlannedRound], restless: Mapping[str, str]) -> list[Part]:
    """Split a group into rounds that can be alive at the same time.

    If there is no room for all, those that verdicts compare stay together and each baseline is measured alone.

    Args:
        restless: backends that must be measured alone, each with the reason.
    """
    alone: list[Part] = [([planned], restless[planned.backend]) for planned in group if planned.backend in restless]
    rest = [planned for planned in group if planned.backend not in restless]
    if alone and len(rest) == 1:
        return [(rest, alone[0][1]), *alone]
    apart = alone_because(params, rest) if rest else None
    if not rest or apart is None:
        return [*([(rest, None)] if rest else []), *alone]
    baselines = baselines_of(params, rest)
    compared = [planned for planned in rest if planned.name not in baselines]
    if len(compared) in (0, len(rest)) or alone_because(params, compared):
        return [*(([planned], apart) for planned in rest), *alone]
    return [(compared, None), *(([planned], apart) for planned in rest if planned.name in baselines), *alone]


def alone_because(params: Params, group: Sequence[PlannedRound]) -> str | None:
    """Return why these rounds cannot be alive at the same time; None if they can."""
    if len(group) == 1:
        return "no other round is measured on its target in its view"
    kind = target(group[0].target).kind
    places = {planned.name: params.places.get(planned.backend) for planned in group}
    launched = [place for place in places.values() if place is not None and place.launch is not None]
    n_here = sum(place is None for place in places.values()) + len(launched)  # the others run already
    if kind == "tpu" and n_here > 1:
        return "only one process at a time can use a TPU"
    if n_here > 1 and any(place.beside_others is False for place in launched):
        return "the params of a server say beside_others=false"
    if kind == "gpu" and n_here > 1 and not all(place.beside_others for place in launched):
        return (
            "a launched server usually takes most of a GPU's memory; if the flags of each leave room, set beside_others"
        )
    for planned in group:
        place = places[planned.name]
        if place is not None and place.launch is None and processes_at(place.address) == []:
            return f"the processes of {planned.backend} on this machine cannot be seen, so its work counts as others'"
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
        ComputesWhileWaiting: if together they take more than `disturbed_share` of a core.
    """
    backends = {planned.name: planned.backend for planned in group}
    if len(group) == 1 or not any(backend_entry(backend).is_live for backend in backends.values()):
        return
    shares: dict[str, float] = {}
    for _ in range(TRIES):
        shares = waiting_shares(pids)
        if sum(shares.values()) <= params.disturbed_share:
            return
    reasons, left = {}, sum(shares.values())
    for name, share in sorted(shares.items(), key=lambda item: -item[1]):
        if left > params.disturbed_share:
            reasons.setdefault(backends[name], f"{backends[name]} takes {share:.0%} {WHILE_IT_WAITS}")
            left -= share
    raise ComputesWhileWaiting(reasons)


def found_before(store: RunStore) -> dict[str, str]:
    """Return what `check_waiting` found in earlier groups of a run, so that these servers do not start in vain.

    A node of a cluster does not see the rounds of others, and looks again in every group.
    """
    reasons = {r.alone_because for r in store.rounds() if WHILE_IT_WAITS in (r.alone_because or "")}
    return {reason.split(" takes ")[0]: reason for reason in reasons if reason}
