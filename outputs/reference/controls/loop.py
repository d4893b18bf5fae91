"""Measure how much longer a call takes in turns with another process than back to back.

    python outputs/reference/controls/loop.py [PARAMS] [--seconds BUDGET]

Two processes first take turns, as in a run. Then each makes as many calls back to back. These phases repeat, so drift
of the machine affects both kinds alike. Appends a line to loop.jsonl: by backend, the time in turns over the time back
to back, with its 95 % interval over the phases.
"""

from __future__ import annotations

import argparse
import itertools
import json
import tempfile
from collections import defaultdict
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from unittest import mock

import numpy as np

from scorematrix.compare.statistics import geometric_interval
from scorematrix.matrix import load_params
from scorematrix.matrix.group import measure_group
from scorematrix.matrix.orchestrate import prepare_run
from scorematrix.matrix.plan import plan_groups
from scorematrix.matrix.turns import Block, Slot
from scorematrix.results import Round, RunStore

HERE = Path(__file__).parent
RESULTS = HERE / "loop.jsonl"
STRETCH = 6
"""Laps in turns, then calls of each process alone."""


def stretches(block: Block, n_requests: int, first_lap: int, rng: np.random.Generator, _: bool) -> Iterator[Slot]:
    """Yield turns of all cells for a stretch, then the same number of turns of one cell after the other."""
    for start in itertools.count(first_lap, 2 * STRETCH):
        order = block.draw(rng)
        for lap in range(start, start + STRETCH):
            order = order[::-1]
            yield from (Slot(lap, request, tuple(order)) for request in range(n_requests))
        for cell in order:
            for lap in range(start + STRETCH, start + 2 * STRETCH):
                yield from (Slot(lap, request, (cell,)) for request in range(n_requests))


def ratios(round_: Round) -> list[float]:
    """Return for each stretch in turns its median time over that of the stretch in a loop that follows it.

    The first call of a loop follows a turn of the other process, so it counts for neither.
    """
    (cell,) = round_.cells
    times: dict[tuple[int, bool], list[float]] = defaultdict(list)
    first = min(turn.lap for turn in cell.turns)
    for turn in cell.turns:
        stretch, lap = divmod(turn.lap - first, 2 * STRETCH)
        if not turn.disturbed and lap != STRETCH:
            times[stretch, lap < STRETCH].append(sum(cell.call_ns[turn.pass_index][turn.request]))
    both = [n for n in {n for n, _ in times} if min(len(times[n, False]), len(times[n, True])) > 2]
    return [median(times[n, True]) / median(times[n, False]) for n in both]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("params", nargs="?", type=Path, default=HERE.parents[2] / "params" / "quick.yaml")
    parser.add_argument("--seconds", type=float, default=240.0, metavar="BUDGET")
    parser.add_argument("--waiting", choices=["spinning", "passive"], default="spinning")
    options = parser.parse_args()
    plain = load_params(options.params)
    changes = {
        "backends": [{"backend": name, "views": ["best_native"]} for name in ("jax", "pytorch")],
        "comparisons": [{"jax": "cpu", "pytorch": "cpu"}],
        "chunk_sizes": [max(plain.chunk_sizes)],
        "controls": False,
        "waiting": options.waiting,
        "precise_to": 1e-9,  # the time ends it
        "again_share": 0.0,
    }
    params = load_params(options.params, changes)
    with (
        tempfile.TemporaryDirectory(prefix="loop-") as folder,
        mock.patch("scorematrix.matrix.conductor.slots", stretches),
    ):
        store = RunStore(Path(folder) / "r")
        prepare_run(params, store)
        group = next(group for group in plan_groups(params) if group[0].role == "confirm")
        rounds = measure_group(params, store, group, seconds=options.seconds)
    found = {}
    for round_ in rounds:
        interval = geometric_interval(ratios(round_))
        found[round_.backend] = {
            "in turns over in a loop": [round(v, 4) for v in (interval.center, interval.low, interval.high)],
            "stretches": interval.n,
        }
    line = {
        "at_utc": datetime.now(UTC).isoformat(timespec="seconds"),
        "params": params.name,
        "waiting": options.waiting,
        **found,
    }
    with RESULTS.open("a") as out:
        out.write(json.dumps(line) + "\n")
    print(json.dumps(line, indent=1))


if __name__ == "__main__":
    main()
