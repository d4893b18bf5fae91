"""Repeat the default job beside a busy process, and record what it decides.

    python outputs/reference/controls/quick.py [N] [--beside BUSY] [--params FILE]

Runs the job N times (default 1) in a temporary folder, each time with a new seed. Meanwhile other processes take the
share BUSY of all cores (default 0.25; 0: none). Appends a line per run to quick.jsonl beside this file, and prints a
summary of all lines.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter, defaultdict
from datetime import UTC, datetime
from pathlib import Path

from scorematrix.compare import compare_run
from scorematrix.results import RunStore

HERE = Path(__file__).parent
RESULTS = HERE / "quick.jsonl"
PARAMS = HERE.parents[2] / "params" / "quick.yaml"
PERIOD_SECONDS = 0.1


def keep_busy(share: float) -> None:
    """Use a share of one core, in slices."""
    while True:
        end = time.perf_counter() + PERIOD_SECONDS * share
        while time.perf_counter() < end:
            pass
        time.sleep(PERIOD_SECONDS * (1 - share))


def one_run(seed: int, busy: float, params: Path) -> dict:
    """Run the job by the command line and return its verdicts."""
    n_cores = len(os.sched_getaffinity(0))
    neighbours = []
    for i in range(n_cores):
        if (share := min(1.0, busy * n_cores - i)) > 0:
            neighbours.append(multiprocessing.Process(target=keep_busy, args=(share,), daemon=True))
            neighbours[-1].start()
    start, started = time.monotonic(), datetime.now(UTC)
    try:
        with tempfile.TemporaryDirectory(prefix="quick-") as folder:
            command = [
                sys.executable,
                "-m",
                "scorematrix",
                "run",
                str(params),
                "--run-id",
                "r",
                "--set",
                f"seed={seed}",
            ]
            done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
            run = Path(folder) / "outputs" / "runs" / "r"
            seconds = time.monotonic() - start
            store = RunStore(run)
            rounds = store.rounds()
            comparison = compare_run(store.manifest(), store.workload(), store.readiness(), rounds)
    finally:
        for neighbour in neighbours:
            neighbour.kill()
    measured = [c for c in comparison.contrasts if c.verdict != "deferred"]
    return {
        "started_utc": started.isoformat(timespec="seconds"),
        "machine": comparison.machine,
        "cores": n_cores,
        "commit": next((r.environment.git_commit for r in rounds if r.environment), None),
        "seed": seed,
        "params": params.name,
        "busy": busy,
        "seconds": round(seconds, 1),
        "exit_code": done.returncode,
        "contrasts": {
            c.view: {
                "verdict": c.verdict,
                "jax over pytorch": c.effect and [round(v, 4) for v in (c.effect.ratio, c.effect.low, c.effect.high)],
                "margin": round(c.margin, 4),
                "laps": c.in_turns and c.in_turns.n_turns,
                "failed": [f"{g.name}: {g.detail}" for g in c.gates if g.status == "failed"],
                "reason": c.reason,
            }
            for c in measured
        },
        "controls": {
            f"{c.backend} {c.view}": {
                "itself": c.itself and [round(v, 4) for v in (c.itself.ratio, c.itself.low, c.itself.high)],
                "itself_verdict": c.itself_verdict,
                "slowed": c.slowed and [round(v, 4) for v in (c.slowed.ratio, c.slowed.low, c.slowed.high)],
                "slowed_verdict": c.slowed_verdict,
            }
            for c in comparison.controls
        },
        "warnings": comparison.warnings,
    }


def summary(found: list[dict]) -> dict:
    """Count verdicts, control results and failed gates over all runs."""
    verdicts: dict[str, Counter[str]] = defaultdict(Counter)
    for run in found:
        for view, contrast in run["contrasts"].items():
            verdicts[view][contrast["verdict"]] += 1
    controls = [control for run in found for control in run["controls"].values()]
    return {
        "runs": len(found),
        "all decided": sum(
            all(c["verdict"] in ("jax", "pytorch", "tie") for c in run["contrasts"].values()) for run in found
        ),
        "verdicts": {view: dict(own) for view, own in verdicts.items()},
        "itself": dict(Counter(c["itself_verdict"] for c in controls)),
        "slowed by 5 %": dict(Counter(c["slowed_verdict"] for c in controls)),
        "failed gates": dict(
            Counter(gate.split(":")[0] for run in found for c in run["contrasts"].values() for gate in c["failed"])
        ),
        "longest, minutes": round(max(run["seconds"] for run in found) / 60, 1),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("n", nargs="?", type=int, default=1)
    parser.add_argument("--beside", type=float, default=0.25, metavar="BUSY")
    parser.add_argument("--params", type=Path, default=PARAMS)
    options = parser.parse_args()
    for _ in range(options.n):
        run = one_run(time.time_ns() % 2**31, options.beside, options.params.resolve())
        with RESULTS.open("a") as out:
            out.write(json.dumps(run) + "\n")
        shown = {view: (c["verdict"], c["jax over pytorch"], c["margin"]) for view, c in run["contrasts"].items()}
        print(f"{run['seconds'] / 60:.1f} min, exit {run['exit_code']}: {shown}", flush=True)
    print(json.dumps(summary([json.loads(line) for line in RESULTS.read_text().splitlines()]), indent=1))


if __name__ == "__main__":
    main()
