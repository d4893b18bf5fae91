"""Compare the two designs beside a load that comes and goes: sides in turns, and one side after the other.

    python outputs/reference/controls/bursty.py [PAIRS] [--seconds BUDGET]

Measures the portable view of the default job by both designs alternately, with the same time budget, while another
process burns one core for 2 to 20 s at random. Appends a line per run to bursty.jsonl and prints a summary.
"""

from __future__ import annotations

import argparse
import json
import math
import multiprocessing
import random
import statistics
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from unittest import mock

from scorematrix.compare import compare_run
from scorematrix.matrix import Choice, fill_run, load_params
from scorematrix.results import RunStore

HERE = Path(__file__).parent
RESULTS = HERE / "bursty.jsonl"
PARAMS = HERE.parents[2] / "params" / "quick.yaml"
BURST_SECONDS = (2.0, 20.0)
DESIGNS = ("in turns", "one after the other")


def burn(seed: int) -> None:
    """Burn a core and rest, each for a random time, without end."""
    rng = random.Random(seed)
    while True:
        end = time.monotonic() + rng.uniform(*BURST_SECONDS)
        while time.monotonic() < end:
            pass
        time.sleep(rng.uniform(*BURST_SECONDS))


def measure(design: str, seed: int, budget_seconds: float) -> dict:
    """Measure a run by one design beside the load; return its interval."""
    views = [{"backend": name, "views": ["portable"]} for name in ("jax", "pytorch")]
    changes = {"backends": views, "comparisons": [{"jax": "cpu", "pytorch": "cpu"}], "seed": seed}
    params = load_params(PARAMS, changes | {"time_budget_seconds": budget_seconds})
    neighbour = multiprocessing.Process(target=burn, args=(seed,), daemon=True)
    neighbour.start()
    start = time.monotonic()
    try:
        with (
            tempfile.TemporaryDirectory(prefix="bursty-") as folder,
            mock.patch(
                "scorematrix.matrix.group.alone_because",
                (lambda *_: "to compare the designs") if design == DESIGNS[1] else (lambda *_: None),
            ),
        ):
            store = RunStore(Path(folder) / "r")

            def compared():
                return compare_run(store.manifest(), store.workload(), store.readiness(), store.rounds())

            def chosen():
                sides = compared().sides
                return {(s.backend, s.view, s.target): Choice(s.best_chunk, s.waiting, s.attention) for s in sides}

            fill_run(params, store, chosen=chosen)
            comparison = compared()
    finally:
        neighbour.kill()
    (contrast,) = comparison.contrasts
    effect = contrast.effect
    return {
        "at_utc": datetime.now(UTC).isoformat(timespec="seconds"),
        "design": design,
        "seed": seed,
        "seconds": round(time.monotonic() - start, 1),
        "verdict": contrast.verdict,
        "jax over pytorch": effect and [round(v, 4) for v in (effect.ratio, effect.low, effect.high)],
        "half_width": effect and round(math.log(effect.high / effect.low) / 2, 4),
        "failed": [f"{gate.name}: {gate.detail}" for gate in contrast.gates if gate.status == "failed"],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pairs", nargs="?", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=240.0, metavar="BUDGET")
    options = parser.parse_args()
    for _ in range(options.pairs):
        seed = time.time_ns() % 2**31
        for design in DESIGNS:
            run = measure(design, seed, options.seconds)
            with RESULTS.open("a") as out:
                out.write(json.dumps(run) + "\n")
            print(f"{design}: {run['seconds']:.0f} s, {run['verdict']}, half-width {run['half_width']}", flush=True)
    runs = [json.loads(line) for line in RESULTS.read_text().splitlines()]
    for design in DESIGNS:
        widths = [run["half_width"] for run in runs if run["design"] == design and run["half_width"]]
        print(f"{design}: {len(widths)} runs, median half-width {statistics.median(widths):.3f} (log)")


if __name__ == "__main__":
    main()
