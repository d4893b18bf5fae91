"""20 real A/A comparisons and 20 of a true 5 %: fresh processes, the tool's own controls, its own looks.

    python outputs/reference/controls/real.py [RUNS] [FOLDER]

Each run measures one backend (JAX and PyTorch in turn) and its control rounds, on a core of its own, until both
questions are settled, or 80 rounds: is it faster than itself (a win is false), and than itself slowed by 5 % (a win is
due)? The same raw times are judged once more with a drift of 3 % over the session laid on them. Writes real.json beside
this file.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from scorematrix.compare.build import reference_scores
from scorematrix.compare.controls import ControlEvidence, gather_controls
from scorematrix.compare.evidence import gather
from scorematrix.compare.gates import run_gates
from scorematrix.compare.sequential import Looks, look_schedule
from scorematrix.compare.statistics import geometric_interval
from scorematrix.compare.timing import side_timing_gates
from scorematrix.compare.verdict import judge
from scorematrix.matrix import fill_run, load_params
from scorematrix.results import Round, RunStore

HERE = Path(__file__).parent
SLOWDOWN, DRIFT, MARGIN = 1.05, 0.03, 0.03


def main(n_runs: int, folder: Path) -> None:
    cores = sorted(os.sched_getaffinity(0))
    found: list[dict] = []
    with multiprocessing.get_context("spawn").Pool(len(cores), pin, [on_own_core(cores)]) as pool:
        for run in pool.imap_unordered(one_run, [(number, folder) for number in range(n_runs)]):
            found = sorted([*found, run], key=lambda r: r["run"])
            print(json.dumps(run), flush=True)
            (HERE / "real.json").write_text(json.dumps({"summary": summary(found), "runs": found}, indent=1) + "\n")
    print(json.dumps(summary(found), indent=1))


def on_own_core(cores: list[int]) -> multiprocessing.Queue:
    """One core for each worker to take."""
    free = multiprocessing.get_context("spawn").Queue()
    for core in cores:
        free.put(core)
    return free


def pin(free: multiprocessing.Queue) -> None:
    os.sched_setaffinity(0, {free.get()})


def one_run(task: tuple[int, Path]) -> dict:
    number, folder = task
    backend = ("jax", "pytorch")[number % 2]
    params = load_params(HERE / "study.yaml", {"seed": number, "backends": [{"backend": backend}]})
    store, start = RunStore(folder / f"run-{number:02d}"), time.monotonic()
    fill_run(params, store, settled=lambda: all(v["settled"] for v in judged(store, 0.0).values()))
    return {
        "run": number,
        "backend": backend,
        "minutes": round((time.monotonic() - start) / 60, 2),
        "as measured": judged(store, 0.0),
        "with 3 % drift": judged(store, DRIFT),
        "gates": gates(store, backend),
    }


def gates(store: RunStore, backend: str) -> dict[str, str]:
    """What every gate that asks one side alone says of a sound backend: anything but `passed` is a false alarm."""
    manifest, rounds, workload = store.manifest(), store.rounds(), store.workload()
    side = gather(rounds, backend, "portable", "cpu", reference_scores(rounds, store.readiness(), manifest))
    asked = [*run_gates([side], workload, same_target=True), *side_timing_gates(side, [side], manifest)]
    return {gate.name: gate.status if gate.status == "passed" else gate.detail for gate in asked}


def judged(store: RunStore, drift: float) -> dict[str, dict]:
    """Both questions of a run, at the first look that settles them."""
    rounds, manifest = store.rounds(), store.manifest()
    last = max(r.position for r in rounds)
    rounds = [drifted(r, 1 + drift * r.position / last) for r in rounds]
    (control,) = gather_controls(manifest, rounds)
    looks = look_schedule(manifest.params)
    return {"itself": settle(control, 1.0, looks), "slowed": settle(control, SLOWDOWN, looks)}


def settle(control: ControlEvidence, slowdown: float, looks: Looks) -> dict:
    """The verdict on the slowed (or equal) one against the backend: `jax` stands for the former being faster."""
    ratios = control.ratios(slowdown)
    answer: dict = {"verdict": "not_enough_evidence", "settled": False}
    for count in looks.counts:
        values = [ratio for index, ratio in ratios.items() if index in looks.indices(count)]
        if len(values) < count:
            break
        interval = geometric_interval(values, looks.confidence)
        verdict = judge(
            missing_sides=[], gates=[], interval=interval, missing_rounds=0, margin=MARGIN, confidence=looks.confidence
        )
        answer = {
            "verdict": {"first": "faster", "second": "slower"}.get(verdict.state, verdict.state),
            "settled": not verdict.wants_rounds,
            "rounds": count,
            "ratio": round(interval.center, 4),
            "interval": [round(interval.low, 4), round(interval.high, 4)],
            "sd_percent": round(100 * interval.sd_log, 2),
        }
        if answer["settled"]:
            break
    return answer


def drifted(round_: Round, factor: float) -> Round:
    """The round as if the machine had been so many times as slow."""
    cells = [
        cell.model_copy(update={"call_ns": [[[int(ns * factor) for ns in q] for q in p] for p in cell.call_ns]})
        for cell in round_.cells
    ]
    return round_.model_copy(update={"cells": cells})


def summary(found: list[dict]) -> dict:
    """How often which verdict, and how many rounds it took."""
    return {
        f"{question}, {how}": {
            "verdicts": dict(Counter(run[how][question]["verdict"] for run in found)),
            "rounds": dict(Counter(run[how][question].get("rounds", 0) for run in found)),
        }
        for how in ("as measured", "with 3 % drift")
        for question in ("itself", "slowed")
    }


if __name__ == "__main__":
    runs = int(sys.argv[1]) if len(sys.argv) > 1 else 20
    main(runs, Path(sys.argv[2]) if len(sys.argv) > 2 else Path(tempfile.mkdtemp(prefix="controls-")))
