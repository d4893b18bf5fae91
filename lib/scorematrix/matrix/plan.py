"""From params to the list of rounds, in order. Pure: no clock, no disk, no device."""

from __future__ import annotations

import numpy as np

from scorematrix.matrix.params import Params
from scorematrix.results.schema import PlannedRound, Role
from scorematrix.scoring.registry import BACKENDS, REFERENCE


def plan_rounds(params: Params) -> list[PlannedRound]:
    """All rounds of a run, in order of execution: the reference, then tuning, then confirmation.

    Backends that share a target and a view run back to back; who goes first is drawn for each such pair from
    the params' seed, because all of one before all of the other turns drift into a winner (rule 15).
    """
    rng = np.random.Generator(np.random.PCG64(params.seed))
    entries: list[tuple[int, Role, str, str, str]] = [(0, "reference", *REFERENCE, params.comparisons[0].pytorch)]
    for index in range(params.tuning_rounds + params.rounds):
        role: Role = "tuning" if index < params.tuning_rounds else "confirm"
        for target, view, backends in _pairs(params):
            entries += [(index, role, backends[i], view, target) for i in rng.permutation(len(backends))]
    return [
        PlannedRound(index=index, role=role, backend=backend, view=view, target=target, position=position)
        for position, (index, role, backend, view, target) in enumerate(entries)
    ]


def needed_targets(params: Params) -> list[tuple[str, str, list[str]]]:
    """Every (target, backend, views) that the run would use, the reference included, in the plan's order."""
    needed: dict[tuple[str, str], list[str]] = {}
    for planned in plan_rounds(params):
        views = needed.setdefault((planned.target, planned.backend), [])
        if planned.view not in views:
            views.append(planned.view)
    return [(target, backend, views) for (target, backend), views in needed.items()]


def chunk_order(params: Params, planned: PlannedRound) -> list[int]:
    """The order of chunk sizes within a round: drawn anew for each index, alike for backends with the same sizes."""
    rng = np.random.Generator(np.random.PCG64([params.seed, planned.index]))
    sizes = params.chunk_sizes_of(planned.backend, planned.view)
    return [sizes[i] for i in rng.permutation(len(sizes))]


def _pairs(params: Params) -> list[tuple[str, str, list[str]]]:
    """(target, view, backends) that run back to back."""
    pairs: dict[tuple[str, str], list[str]] = {}
    for comparison in params.comparisons:
        for choice in params.backends:
            target = comparison.jax if BACKENDS[choice.backend].framework == "jax" else comparison.pytorch
            for view in choice.views:
                together = pairs.setdefault((target, view), [])
                if choice.backend not in together:
                    together.append(choice.backend)
    return [(target, view, backends) for (target, view), backends in pairs.items()]
