"""Turn params into the ordered list of rounds. Pure: no clock, no disk, no device."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np

from scorematrix.matrix.choices import BackendChoice, ComparisonChoice
from scorematrix.matrix.params import Params
from scorematrix.measure.process import sets_waiting
from scorematrix.readiness.targets import target as known_target
from scorematrix.results.schema import PlannedRound, Role, Waiting, stands_for
from scorematrix.scoring.registry import REFERENCE, backend_entry

CONTROL_VIEW = "best_native"
"""The view of the controls, if a target has it."""
REFERENCE_CHUNK = 8
"""Items per call to the reference, which is exact at any chunk size; a call of hundreds would exceed any time limit."""


def plan_rounds(params: Params) -> list[PlannedRound]:
    """Return all rounds of a run, in order of execution; see `plan_groups`."""
    return [planned for group in plan_groups(params) for planned in group]


def plan_groups(params: Params) -> list[list[PlannedRound]]:
    """Return the groups of rounds, in order of execution: references, then tuning, then confirmation.

    Backends that share a target and a view form a group. The control joins it and repeats one of them; the repeated
    backend alternates from index to index. A group measures in turns if it can, else back to back (rule 15). The order
    is drawn from the params' seed, and the next group of the same target, view and role has the reverse order: each
    side goes first in half of the pairs, whatever the seed.
    """
    rng = np.random.Generator(np.random.PCG64(params.seed))
    drawn: dict[tuple[str, str, Role], list[int]] = {}
    position = itertools.count()

    def planned(*values: Any) -> PlannedRound:
        fields = zip(("index", "role", "backend", "view", "target", "waiting"), values, strict=True)
        return PlannedRound(position=next(position), **dict(fields))

    groups = [[planned(0, "reference", *one, None)] for one in _references(params)]
    pairs = _pairs(params)
    controls = _controls(params, pairs, rng) if params.controls else {}
    for index in range(params.tuning_rounds + params.most_rounds):
        role: Role = "tuning" if index < params.tuning_rounds else "confirm"
        for target, view, measured in pairs:
            together: list[tuple[Role, str, str]] = [(role, *one) for one in measured]
            if role == "confirm" and (sides := controls.get((target, view))):
                together.append(("control", sides[index % len(sides)], view))
            before = drawn.pop((target, view, role), None)
            order = before[::-1] if before else rng.permutation(len(together)).tolist()
            if not before:
                drawn[target, view, role] = order
            groups.append(
                [
                    planned(index, own_role, backend, own_view, target, waiting)
                    for own_role, backend, own_view in (together[i] for i in order)
                    for waiting in _ways_of_waiting(params, own_role, backend, target)
                ]
            )
    return groups


def _ways_of_waiting(params: Params, role: Role, backend: str, where: str) -> tuple[Waiting | None, ...]:
    """Return the ways of waiting that a round tries. None: use what tuning chose, or there is nothing to choose."""
    place = params.places.get(backend)
    if not backend_entry(backend).has_openmp or known_target(where).kind != "cpu":
        return (None,)
    if place is not None and (place.launch is None or sets_waiting(place.variables)):  # whoever starts it has chosen
        return (None,)
    if params.waiting != "tuned":
        return (params.waiting,)
    return ("spinning", "passive") if role == "tuning" else (None,)


def needed_targets(params: Params) -> list[tuple[str, str, list[str]]]:
    """Return every (target, backend, views) that the run would use, with the reference, in the plan's order."""
    needed: dict[tuple[str, str], list[str]] = {}
    for planned in plan_rounds(params):
        views = needed.setdefault((planned.target, planned.backend), [])
        if planned.view not in views:
            views.append(planned.view)
    return [(target, backend, views) for (target, backend), views in needed.items()]


def chunk_order(params: Params, planned: PlannedRound) -> list[int]:
    """Return a round's chunk sizes in an order drawn for each index, the same for backends with the same sizes.

    A control round needs only the largest, which takes the least time. The reference has one size too.
    """
    if planned.role == "reference":
        return [REFERENCE_CHUNK]
    sizes = params.chunk_sizes_of(planned.backend, planned.view)
    if planned.role == "control":
        return [max(sizes)]
    rng = np.random.Generator(np.random.PCG64([params.seed, planned.index]))
    return [sizes[i] for i in rng.permutation(len(sizes))]


def _references(params: Params) -> list[tuple[str, str, str]]:
    """Return backend, view and target of the reference rounds, of which a run needs one; see `one_reference`.

    A machine without the second side's device computes the reference on its CPU.
    """
    entry = backend_entry(params.reference)
    view = REFERENCE[1] if params.reference == REFERENCE[0] else next(iter(entry.views))
    _, (_, target) = params.comparisons[0].sides
    targets = [target, "cpu"] if target != "cpu" and "cpu" in entry.device_kinds else [target]
    return [(params.reference, view, name) for name in targets]


def _pairs(params: Params) -> list[tuple[str, str, list[tuple[str, str]]]]:
    """Return (target, view, (backend, view) of each member) of what runs back to back."""
    pairs: dict[tuple[str, str], list[tuple[str, str]]] = {}
    for comparison in params.comparisons:
        for choice in params.backends:
            if (target := _target(params, comparison, choice.backend)) is None:
                continue
            for view in choice.views:
                together = pairs.setdefault((target, _beside(params, comparison, choice, view)), [])
                if (choice.backend, view) not in together:
                    together.append((choice.backend, view))
    return [(target, view, measured) for (target, view), measured in pairs.items()]


def _target(params: Params, comparison: ComparisonChoice, backend: str) -> str | None:
    """Return the target of a backend in a comparison; None if only other comparisons name it.

    A baseline, which no comparison names, runs where its framework does.
    """
    for side, target in comparison.sides:
        if stands_for(side, backend):
            return target
    if any(stands_for(side, backend) for other in params.comparisons for side, _ in other.sides):
        return None
    named = dict(comparison.sides)
    return named.get(backend_entry(backend).framework, comparison.sides[1][1])


def _beside(params: Params, comparison: ComparisonChoice, choice: BackendChoice, view: str) -> str:
    """Return the view whose rounds a backend joins: `view`, or a view of the side that it is compared with.

    A baseline whose view no side has joins the rounds of the sides' best view.
    """
    named = [side for side, _ in comparison.sides]
    side_index = next((i for i, side in enumerate(named) if stands_for(side, choice.backend)), None)
    views = [[v for b in params.backends for v in b.views if stands_for(side, b.backend)] for side in named]
    if side_index is None:
        both = [v for each in views for v in each]
        return view if not both or view in both else CONTROL_VIEW if CONTROL_VIEW in both else both[-1]
    others = views[1 - side_index]
    if view in others or not others:
        return view
    is_server = backend_entry(choice.backend).address is not None
    # If the sides share no view name, the second side joins the first one's rounds.
    return others[-1] if is_server or (side_index == 1 and not set(views[0]) & set(views[1])) else view


def _controls(
    params: Params, pairs: list[tuple[str, str, list[tuple[str, str]]]], rng: np.random.Generator
) -> dict[tuple[str, str], list[str]]:
    """Return the backends that controls repeat, by target and view: one view per target, best_native if it has it."""
    named = [side for comparison in params.comparisons for side, _ in comparison.sides]
    chosen: dict[str, tuple[str, list[str]]] = {}
    for target, view, measured in pairs:
        backends = [b for b, its in measured if its == view and any(stands_for(side, b) for side in named)]
        if backends and (target not in chosen or (view == CONTROL_VIEW and chosen[target][0] != view)):
            chosen[target] = (view, [backends[i] for i in rng.permutation(len(backends))])
    return {(target, view): sides for target, (view, sides) in chosen.items()}
