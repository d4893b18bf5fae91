"""Draw the order of turns of a group of rounds from the seed. Pure: no clock, no process."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from scorematrix.matrix.params import Params
from scorematrix.matrix.plan import chunk_order
from scorematrix.results import PlannedRound, Round, stands_for
from scorematrix.workload import Workload

CellKey = tuple[str, int, float]
"""Name of the round, chunk size, slowdown."""
SLOWDOWN = 1.05
"""The control's known slowdown (rule 21)."""
DRAWN_ORDERS = 24
"""Draws that find a nearest order of four cells in 99 % of cases; four orders are equally near."""
FRESH_EVERY = 3
"""One lap in this many has unseen tokens, starting with the second lap."""
FEWEST_RATIOS = 8
"""Scatter is judged from this many laps on. Each lap is a new test; two or three sooner or later agree by chance."""
MAD_EFFICIENCY = 0.37
"""Efficiency of the median absolute deviation relative to the standard deviation, for normal ratios."""
SURE = 0.9
"""Confidence of the bound."""


@dataclass(frozen=True)
class Block:
    """Cells that are measured in turns: one turn each in every lap.

    Attributes:
        goes_on: whether laps beyond the fewest follow until the ratios are precise or the time is up.
        compared: pairs of cells whose ratio counts; their turns are adjacent if possible.
    """

    cells: tuple[CellKey, ...]
    goes_on: bool = False
    compared: tuple[tuple[CellKey, CellKey], ...] = ()

    def draw(self, rng: np.random.Generator) -> list[CellKey]:
        """Draw some orders of the cells; return the one in which compared cells are nearest to each other."""
        orders = [[self.cells[i] for i in rng.permutation(len(self.cells))] for _ in range(DRAWN_ORDERS)]
        return min(orders, key=lambda order: sum(abs(order.index(a) - order.index(b)) for a, b in self.compared))


@dataclass(frozen=True)
class Slot:
    """One turn of every cell of a block, over the same request.

    Attributes:
        is_fresh: whether the request's tokens are drawn anew, the same for all cells.
    """

    lap: int
    request: int
    cells: tuple[CellKey, ...]
    is_fresh: bool = False


@dataclass(frozen=True)
class Score:
    """The turns that a group is to take, and when to end them.

    Attributes:
        fewest_laps: of every block.
        precise: standard error of a ratio's logarithm at which laps end.
        seconds: for all turns of the group; None: the fewest laps and no more.
        disturbed_share: share of a core; a turn during which others took more is disturbed.
        again_share: share of `seconds` that is reserved to wait until others are idle, and to repeat disturbed turns.
        draws_tokens: whether some laps of blocks that go on have tokens drawn anew.
        seeds: by request, of tokens that the reference has scored; each is used once, every other seed is drawn.
    """

    blocks: Sequence[Block]
    n_requests: int
    fewest_laps: int
    precise: float = 0.0
    seconds: float | None = None
    disturbed_share: float = 0.05
    again_share: float = 0.25
    draws_tokens: bool = False
    seeds: Mapping[int, int] = field(default_factory=dict)

    def laps_due(self, block: Block) -> int:
        """Return the fewest laps of a block, which include one with drawn tokens if it draws any."""
        return max(2, self.fewest_laps) if block.goes_on and self.draws_tokens else self.fewest_laps


def score_of(
    params: Params,
    workload: Workload,
    group: Sequence[PlannedRound],
    sizes: Mapping[str, Sequence[int]] | None = None,
    chosen: Mapping[str, int] | None = None,
    seconds: float | None = None,
    seeds: Mapping[int, int] | None = None,
) -> Score:
    """Return the turns that a group of rounds is to take under the params.

    Args:
        sizes: chunk sizes by round name; by default those of the plan.
        chosen: see `plan_blocks`.
        seconds: for the group's turns.
        seeds: see `Score`.
    """
    sizes = sizes or {p.name: chunk_order(params, p) for p in group}
    baselines = baselines_of(params, group)
    is_reference = group[0].role == "reference"
    return Score(
        blocks=plan_blocks(group, sizes, chosen or {}, baselines if len(baselines) < len(group) else frozenset()),
        n_requests=len(workload.requests),
        fewest_laps=1 if is_reference else params.passes,
        precise=params.precise_to or math.log1p(params.margin) / 4,
        seconds=None if is_reference else seconds,
        disturbed_share=params.disturbed_share,
        again_share=params.again_share,
        draws_tokens=not (is_reference or params.reuse_prefix or any(params.keeps_prefix(p.backend) for p in group)),
        seeds=seeds or {},
    )


def baselines_of(params: Params, group: Sequence[PlannedRound]) -> frozenset[str]:
    """Return the names of a group's rounds that no comparison names."""
    sides = [side for comparison in params.comparisons for side, _ in comparison.sides]
    return frozenset(p.name for p in group if not any(stands_for(side, p.backend) for side in sides))


def plan_blocks(
    group: Sequence[PlannedRound],
    sizes: Mapping[str, Sequence[int]],
    chosen: Mapping[str, int],
    baselines: frozenset[str] = frozenset(),
) -> list[Block]:
    """Return a group's blocks: other chunk sizes first, then baselines, then the cells that verdicts use.

    Args:
        sizes: chunk sizes by round name.
        chosen: the chunk size that tuning chose, by round name; if empty, all sizes are measured alike.
        baselines: names of rounds in no comparison; they get the fewest laps, in turns with the chosen cells.
    """
    if not chosen or any(p.role == "tuning" for p in group):
        # Smaller sizes take more calls and matter less, but before a choice all of them share one block.
        return [Block(tuple(cell for p in group for cell in _cells(p, sizes[p.name])), goes_on=True)]
    chosen = {p.name: chosen.get(p.name, max(sizes[p.name])) for p in group}
    sides = [p for p in group if p.role != "control" and p.name not in baselines]
    others = sorted({size for p in sides for size in sizes[p.name]}, reverse=True)
    blocks = []
    for size in others:
        cells = [(p.name, size, 1.0) for p in sides if size in sizes[p.name]]
        if any(chosen[name] != size for name, _, _ in cells):
            blocks.append(Block(tuple(cells)))
    main = [cell for p in group if p.name not in baselines for cell in _cells(p, [chosen[p.name]])]
    if baseline_cells := [cell for p in group if p.name in baselines for cell in _cells(p, sizes[p.name])]:
        blocks.append(Block((*(cell for cell in main if cell[0] in {p.name for p in sides}), *baseline_cells)))
    of_sides = [cell for p in sides for cell in _cells(p, [chosen[p.name]])]
    control_pairs = [
        (cell, (p.name, chosen[p.name], 1.0))
        for p in sides
        for cell in main
        if cell[0] != p.name and cell[2] == 1.0 and _is_control_of(cell, p, group)
    ]
    return [*blocks, Block(tuple(main), True, (*itertools.combinations(of_sides, 2), *control_pairs))]


def seeds_for(group: Sequence[PlannedRound], reference: Round | None) -> dict[int, int]:
    """Return by request the seeds of drawn tokens that the reference has scored for this group."""
    samples = reference.samples if reference else []
    return {one.request: one.seed for one in samples if one.index == group[0].index}


def _cells(planned: PlannedRound, sizes: Sequence[int]) -> list[CellKey]:
    slowdowns = (1.0, SLOWDOWN) if planned.role == "control" else (1.0,)
    return [(planned.name, size, slowdown) for size in sizes for slowdown in slowdowns]


def _is_control_of(cell: CellKey, side: PlannedRound, group: Sequence[PlannedRound]) -> bool:
    control = next(p for p in group if p.name == cell[0])
    return control.role == "control" and (control.backend, control.view) == (side.backend, side.view)


def slots(
    block: Block, n_requests: int, first_lap: int, rng: np.random.Generator, draws_tokens: bool = False
) -> Iterator[Slot]:
    """Yield slots of a block without end.

    Each drawn order is followed by its reverse, so every cell goes before every other one equally often, and drift of
    the machine affects all alike.
    """
    order: list[CellKey] = []
    for lap in itertools.count(first_lap):
        is_fresh = draws_tokens and block.goes_on and (lap - first_lap) % FRESH_EVERY == 1
        for request in range(n_requests):
            order = order[::-1] if (lap - first_lap) * n_requests + request & 1 else block.draw(rng)
            yield Slot(lap, request, tuple(order), is_fresh)


def standard_error(logs: Sequence[float]) -> float:
    """Return the standard error of a Hodges-Lehmann estimate of these log ratios.

    Their scatter is the median absolute deviation, which one disturbed turn does not move.
    """
    scatter = 1.4826 * float(np.median(np.abs(np.asarray(logs) - np.median(logs))))
    return math.sqrt(math.pi / 3) * scatter / math.sqrt(len(logs))


def error_bound(logs: Sequence[float]) -> float:
    """Return an upper confidence bound of that standard error; infinite below `FEWEST_RATIOS`."""
    from scipy.special import chdtri  # every kernel imports this module, and few need it

    freedom = MAD_EFFICIENCY * (len(logs) - 1)
    return standard_error(logs) * math.sqrt(freedom / chdtri(freedom, SURE)) if len(logs) >= FEWEST_RATIOS else math.inf


def widest_error(seconds: Mapping[CellKey, Sequence[float]]) -> float:
    """Return the largest error bound of a ratio between two of these cells.

    Args:
        seconds: of each lap, by cell; for a single cell the error of its time counts.
    """
    logs = [np.log(laps) for laps in seconds.values()]
    pairs = itertools.combinations(logs, 2) if len(logs) > 1 else [(logs[0], np.zeros(len(logs[0])))]
    return max(error_bound((a - b).tolist()) for a, b in pairs)
