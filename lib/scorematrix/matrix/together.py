"""Which rounds of a group can be alive at the same time, and why others cannot."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import psutil

from scorematrix.matrix.memory import process_bytes
from scorematrix.matrix.params import Params
from scorematrix.matrix.turns import baselines_of
from scorematrix.measure.noise import waiting_shares
from scorematrix.measure.process import processes_at
from scorematrix.models import read_description
from scorematrix.readiness.targets import target
from scorematrix.results import PlannedRound, RunStore
from scorematrix.workload import Workload

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


def parts_of(
    params: Params, group: Sequence[PlannedRound], polling: Mapping[str, str], workload: Workload
) -> list[Part]:
    """Split a group into rounds that can be alive at the same time.

    If there is no room for all, those that verdicts compare stay together and each baseline is measured alone.

    Args:
        polling: servers that must be measured alone, each with the reason.
    """
    reasons = {**_kept_apart(params, group), **polling}
    alone: list[Part] = [([planned], reasons[planned.backend]) for planned in group if planned.backend in reasons]
    rest = [planned for planned in group if planned.backend not in reasons]
    if not rest:
        return alone
    if len(rest) == 1 and alone:
        return [(rest, alone[0][1]), *alone]
    apart = alone_because(params, rest, workload)
    if apart is None:
        return [(rest, None), *alone]
    baselines = baselines_of(params, rest)
    compared = [planned for planned in rest if planned.name not in baselines]
    if len(compared) in (0, len(rest)) or alone_because(params, compared, workload):
        return [*(([planned], apart) for planned in rest), *alone]
    return [(compared, None), *(([planned], apart) for planned in rest if planned.name in baselines), *alone]


def alone_because(params: Params, group: Sequence[PlannedRound], workload: Workload) -> str | None:
    """Return why the device or the memory has no room for these rounds at the same time; None if it has."""
    if len(group) == 1:
        return "no other round is measured on its target in its view"
    where = target(group[0].target)
    if where.kind == "tpu" and _n_on_device(params, group) > 1:
        return "only one process at a time can use a TPU"
    if where.device_bytes is not None:
        needs = [process_bytes(params, p, workload) for p in group if p.backend not in params.places]
        if len(needs) > 1 and sum(needs) > where.device_bytes:
            need, has = sum(needs) / 1e9, where.device_bytes / 1e9
            return f"{len(needs)} processes need about {need:.0f} GB on the device, {where.label} has {has:.0f} GB"
    weight_bytes = 4 * read_description(params.model).config.n_params
    launched = {backend for backend, place in params.places.items() if place.launch}
    n = len(group) + sum(planned.backend in launched for planned in group)  # a launched server and its client
    need = n * (WEIGHT_COPIES * weight_bytes + PROCESS_BYTES)
    if (available := psutil.virtual_memory().available) < need:
        return f"{n} processes need about {need / 1e9:.0f} GB of memory, {available / 1e9:.0f} GB are free"
    return None


def _kept_apart(params: Params, group: Sequence[PlannedRound]) -> dict[str, str]:
    """Return the servers of a group that may not be alive beside others, each with the reason."""
    kind, is_shared = target(group[0].target).kind, _n_on_device(params, group) > 1
    reasons = {}
    for backend in {planned.backend for planned in group} & params.places.keys():
        place = params.places[backend]
        if place.launch is None:
            if processes_at(place.address) == []:
                reasons[backend] = f"{backend} runs on this machine, but its processes cannot be told from others"
        elif is_shared and place.beside_others is False:
            reasons[backend] = f"the params of {backend} say beside_others=false"
        elif is_shared and kind == "gpu" and not place.beside_others:
            reasons[backend] = f"{backend} may take most of the GPU's memory; set beside_others if it leaves room"
    return reasons


def _n_on_device(params: Params, group: Sequence[PlannedRound]) -> int:
    """Return how many of these rounds need room on the device; a server at a URL runs already."""
    places = (params.places.get(planned.backend) for planned in group)
    return sum(place is None or place.launch is not None for place in places)


def check_waiting(params: Params, group: Sequence[PlannedRound], pids: Mapping[str, Sequence[int]]) -> None:
    """Check that live servers use no core between requests, as our engines do. Some poll for requests in a loop.

    Args:
        pids: process ids by round name, of rounds that are ready for their first turn.

    Raises:
        ComputesWhileWaiting: if together they take more than `disturbed_share` of a core.
    """
    backends = {planned.name: planned.backend for planned in group}
    if len(group) == 1 or params.places.keys().isdisjoint(backends.values()):
        return
    shares: dict[str, float] = {}
    for _ in range(TRIES):
        shares = waiting_shares(pids)
        if sum(shares.values()) <= params.disturbed_share:
            return
    reasons, left = {}, sum(shares.values())
    for name in sorted(shares, key=shares.__getitem__, reverse=True):
        if left <= params.disturbed_share:
            break
        reasons.setdefault(backends[name], f"{backends[name]} takes {shares[name]:.0%} {WHILE_IT_WAITS}")
        left -= shares[name]
    raise ComputesWhileWaiting(reasons)


def polling_before(store: RunStore) -> dict[str, str]:
    """Return what `check_waiting` found in earlier groups of a run, so that these servers do not start in vain.

    A node of a cluster does not see the rounds of others, and looks again in every group.
    """
    found = [(r.backend, r.alone_because or "") for r in store.rounds()]
    return {backend: why for backend, why in found if WHILE_IT_WAITS in why and why.startswith(f"{backend} ")}
