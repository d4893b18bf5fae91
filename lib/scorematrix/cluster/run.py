"""Fill a run folder from a cluster: the nodes measure, and only the driver writes into the folder."""

from __future__ import annotations

import errno
from collections.abc import Callable, Collection, Mapping
from itertools import groupby

from scorematrix.cluster.connect import living_nodes
from scorematrix.cluster.fleet import PATIENCE_SECONDS, Fleet
from scorematrix.cluster.survey import survey_cluster
from scorematrix.matrix import Params, needed_targets, prepare_run
from scorematrix.matrix.budget import Budget
from scorematrix.matrix.orchestrate import Chosen, Progress, groups_of, known_records, open_plan
from scorematrix.results import PlannedRound, RecordStore, RunStore, TargetRecord


class NodesLost(ConnectionError):
    """The last node of a target is gone and no other came. Results are kept; the same command continues."""


def fill_on_cluster(
    params: Params,
    store: RunStore,
    *,
    only: Collection[str] | None = None,
    retry_failed: bool = False,
    records: RecordStore | None = None,
    written: Mapping[str, TargetRecord] | None = None,
    settled: Callable[[], bool] = lambda: False,
    chosen: Chosen = dict,
    on_progress: Callable[[Progress], None] = lambda _: None,
) -> None:
    """Run `matrix.fill_run` on the nodes of the connected cluster: same plan, same files, same events.

    Raises:
        ValueError: for a run folder that is damaged, in use, or of other params.
        StorageFailed: if the driver's disk cannot be written.
        NodesLost: if rounds are left that no node can measure any more.
    """
    prepare_run(params, store)
    with store.lock():
        tried, compiled = known_records(params, store, records, written)
        needed = needed_targets(params)
        with Fleet(params, store, needed, only, tried, PATIENCE_SECONDS, chosen, on_progress) as fleet:
            nodes = living_nodes()
            readiness, pools = survey_cluster(needed, nodes, fleet.ask(nodes), only, tried, compiled)
            todo, kept = open_plan(params, store, readiness, retry_failed)
            groups = groups_of(params, todo)
            budget = Budget(params, groups)
            fleet.take(pools, kept, len(todo), {group[0].name: budget.share(group) for group in groups})
            for index, stage in stages(params, groups):
                if index >= params.tuning_rounds + params.rounds and settled():
                    break
                fleet.fill(stage)
    if fleet.given_up:
        raise NodesLost(errno.EHOSTUNREACH, "; ".join(fleet.given_up))


def stages(params: Params, groups: list[list[PlannedRound]]) -> list[tuple[int, list[list[PlannedRound]]]]:
    """Return the groups in order, split where a run may be settled: before each index beyond `rounds`."""
    first_look = params.tuning_rounds + params.rounds
    cut = groupby(groups, key=lambda group: max(group[0].index, first_look - 1))
    return [(index, list(stage)) for index, stage in cut]
