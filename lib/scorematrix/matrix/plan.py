"""From params to the list of rounds, in order. Pure: no clock, no disk, no device."""

from __future__ import annotations

import numpy as np

from scorematrix.matrix.params import Params
from scorematrix.results.schema import SIDES, PlannedRound, Role
from scorematrix.scoring.registry import BACKENDS, REFERENCE

CONTROL_VIEW = "best_native"
"""The view that controls are of, where a target has it."""
REFERENCE_CHUNK = 8
"""Items of a call to the reference, which is exact at any chunk size: hundreds of them would outlast any time limit."""


def plan_rounds(params: Params) -> list[PlannedRound]:
    """All rounds of a run, in order of execution: the reference, then tuning, then confirmation with its controls.

    Backends that share a target and a view run back to back; who goes first is drawn for each such pair from
    the params' seed, because all of one before all of the other turns drift into a winner (rule 15). A control round
    runs among those of the backend that it repeats.
    """
    rng = np.random.Generator(np.random.PCG64(params.seed))
    entries: list[tuple[int, Role, str, str, str]] = [(0, "reference", *REFERENCE, params.comparisons[0].pytorch)]
    pairs = _pairs(params)
    controls = _controls(pairs) if params.controls else {}
    for index in range(params.tuning_rounds + params.most_rounds):
        role: Role = "tuning" if index < params.tuning_rounds else "confirm"
        for target, view, backends in pairs:
            together: list[tuple[Role, str]] = [(role, backend) for backend in backends]
            if role == "confirm" and (target, view) in controls:
                together.append(("control", controls[target, view]))
            for i in rng.permutation(len(together)):
                entries.append((index, *together[i], view, target))
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
    """The order of chunk sizes within a round: drawn anew for each index, alike for backends with the same sizes.

    A control round needs no more than one, the largest: that takes least time. Nor does the reference.
    """
    if planned.role == "reference":
        return [REFERENCE_CHUNK]
    sizes = params.chunk_sizes_of(planned.backend, planned.view)
    if planned.role == "control":
        return [max(sizes)]
    rng = np.random.Generator(np.random.PCG64([params.seed, planned.index]))
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


def _controls(pairs: list[tuple[str, str, list[str]]]) -> dict[tuple[str, str], str]:
    """One backend and view a target, by (target, view): the first of a framework, best_native if there."""
    chosen: dict[str, tuple[str, str]] = {}
    for target, view, backends in pairs:
        own = next((backend for backend in backends if backend in SIDES), None)
        if own is not None and (target not in chosen or (view == CONTROL_VIEW and chosen[target][0] != view)):
            chosen[target] = (view, own)
    return {(target, view): backend for target, (view, backend) in chosen.items()}
