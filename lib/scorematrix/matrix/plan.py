"""From params to the list of rounds, in order. Pure: no clock, no disk, no device."""

from __future__ import annotations

import itertools

import numpy as np

from scorematrix.matrix.choices import BackendChoice, ComparisonChoice
from scorematrix.matrix.params import Params
from scorematrix.readiness.targets import target as known_target
from scorematrix.results.schema import PlannedRound, Role, Waiting, stands_for
from scorematrix.scoring.registry import REFERENCE, backend_entry

CONTROL_VIEW = "best_native"
"""The view that controls are of, where a target has it."""
REFERENCE_CHUNK = 8
"""Items of a call to the reference, which is exact at any chunk size: hundreds of them would outlast any time limit."""


def plan_rounds(params: Params) -> list[PlannedRound]:
    """All rounds of a run, in order of execution; see `plan_groups`."""
    return [planned for group in plan_groups(params) for planned in group]


def plan_groups(params: Params) -> list[list[PlannedRound]]:
    """The rounds that belong together, in order of execution: the reference, then tuning, then confirmation.

    Backends that share a target and a view are a group. So is the control, which repeats one of them; they alternate
    from index to index. A group measures in turns where it can, else back to back (rule 15). The order is drawn from
    the params' seed, and the next group of the same target, view and role has the reverse order: each side goes first
    in half of the pairs, whatever the seed.
    """
    rng = np.random.Generator(np.random.PCG64(params.seed))
    drawn: dict[tuple[str, str, Role], list[int]] = {}
    groups: list[list[tuple[int, Role, str, str, str, Waiting | None]]] = [
        [(0, "reference", *_reference(params), None)]
    ]
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
                    (index, own_role, backend, own_view, target, waiting)
                    for own_role, backend, own_view in (together[i] for i in order)
                    for waiting in _ways_of_waiting(params, own_role, backend, target)
                ]
            )
    position = itertools.count()
    return [
        [
            PlannedRound(
                index=index,
                role=role,
                backend=backend,
                view=view,
                target=target,
                position=next(position),
                waiting=waiting,
            )
            for index, role, backend, view, target, waiting in group
        ]
        for group in groups
    ]


def _ways_of_waiting(params: Params, role: Role, backend: str, where: str) -> tuple[Waiting | None, ...]:
    """What tuning tries; rounds after it get what it chose. None: that, or there is nothing to choose."""
    if not backend_entry(backend).has_openmp or known_target(where).kind != "cpu":
        return (None,)
    if params.waiting != "tuned":
        return (params.waiting,)
    return ("spinning", "passive") if role == "tuning" else (None,)


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


def _reference(params: Params) -> tuple[str, str, str]:
    """Backend, view and target of the reference round."""
    view = REFERENCE[1] if params.reference == REFERENCE[0] else next(iter(backend_entry(params.reference).views))
    _, (_, target) = params.comparisons[0].sides
    return params.reference, view, target


def _pairs(params: Params) -> list[tuple[str, str, list[tuple[str, str]]]]:
    """(target, view, (backend, view) of each) that run back to back."""
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
    """Where a comparison has a backend measured; a baseline, which none names, runs where its framework does."""
    for side, target in comparison.sides:
        if stands_for(side, backend):
            return target
    if any(stands_for(side, backend) for other in params.comparisons for side, _ in other.sides):
        return None
    named = dict(comparison.sides)
    return named.get(backend_entry(backend).framework, comparison.sides[1][1])


def _beside(params: Params, comparison: ComparisonChoice, choice: BackendChoice, view: str) -> str:
    """The view among whose rounds a backend's are measured: its own, or that of the side it is compared with.

    A baseline is measured among the rounds of the sides' best view.
    """
    named = [side for side, _ in comparison.sides]
    own = next((i for i, side in enumerate(named) if stands_for(side, choice.backend)), None)
    views = [[v for b in params.backends for v in b.views if stands_for(side, b.backend)] for side in named]
    if own is None:
        both = [v for each in views for v in each]
        return view if not both or view in both else CONTROL_VIEW if CONTROL_VIEW in both else both[-1]
    others = views[1 - own]
    if view in others or not others:
        return view
    is_server = backend_entry(choice.backend).address is not None
    # Two scorers whose views have names of their own are measured among the first one's rounds.
    return others[-1] if is_server or (own == 1 and not set(views[0]) & set(views[1])) else view


def _controls(
    params: Params, pairs: list[tuple[str, str, list[tuple[str, str]]]], rng: np.random.Generator
) -> dict[tuple[str, str], list[str]]:
    """Return the backends that controls repeat, by target and view: one view per target, best_native if it has it."""
    named = [side for comparison in params.comparisons for side, _ in comparison.sides]
    chosen: dict[str, tuple[str, list[str]]] = {}
    for target, view, measured in pairs:
        own = [b for b, its in measured if its == view and any(stands_for(side, b) for side in named)]
        if own and (target not in chosen or (view == CONTROL_VIEW and chosen[target][0] != view)):
            chosen[target] = (view, [own[i] for i in rng.permutation(len(own))])
    return {(target, view): sides for target, (view, sides) in chosen.items()}
