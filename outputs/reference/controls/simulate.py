"""1,000 simulated comparisons a case, judged by `compare_run` itself: the times of a recorded run are made anew.

    python outputs/reference/controls/simulate.py RUN [N] [WORDS OF A CASE'S NAME]

RUN is a recorded run that holds a reference, tuning, confirmation and control rounds of both sides in some view. Plan,
order, looks, gates, controls, Holm and margin are the tool's; the machine is simulated: a process-to-process scatter,
passes that scatter within a process, one round in twenty slowed by 10 %, a drift of 3 % over the session. Rounds are
added as the tool asks for them. Writes simulated.json beside this file.
"""

from __future__ import annotations

import json
import math
import multiprocessing
import sys
from collections import Counter
from pathlib import Path

import numpy as np
from scipy import stats

from scorematrix.compare import compare_run
from scorematrix.compare.looks import look_schedule
from scorematrix.matrix import Params, plan_rounds
from scorematrix.results import Manifest, PlannedRound, Round, RunStore

HERE = Path(__file__).parent
CASES = {
    # name: (true ratio of times, scatter of processes, drift, most rounds)
    "A/A, 10 rounds, scatter 1 %": (1.0, 0.01, 0.0, None),
    "A/A, 10 rounds, scatter 2 %, drift 3 %": (1.0, 0.02, 0.03, None),
    "A/A, until decided (5, 10, 20, 40), scatter 1 %": (1.0, 0.01, 0.0, 40),
    "A/A, until decided, scatter 2 %, drift 3 %": (1.0, 0.02, 0.03, 40),
    "A/A, until decided, scatter 5 %, drift 3 %": (1.0, 0.05, 0.03, 40),
    "true 3 % (at the margin), until decided, scatter 2 %, drift 3 %": (1.03, 0.02, 0.03, 40),
    "true 5 %, until decided, scatter 1 %": (1.05, 0.01, 0.0, 40),
    "true 5 %, until decided, scatter 1 %, drift 3 %": (1.05, 0.01, 0.03, 40),
    "true 5 %, until decided, scatter 2 %, drift 3 %": (1.05, 0.02, 0.03, 40),
    "true 5 %, until decided up to 80, scatter 1 %": (1.05, 0.01, 0.0, 80),
}
PASS_SCATTER, TAIL_SHARE, TAIL = 0.005, 0.05, 1.10
VIEW, N_ITEMS = "best_native", 4
SECONDS = 4.0
"""A pass: slower than the recorded run's ceiling allows, as the physics gate demands."""


class Template:
    """A recorded run, of which only the times are made anew."""

    def __init__(self, store: RunStore) -> None:
        self.manifest, self.workload = store.manifest(), store.workload()
        readiness, rounds = store.readiness(), store.rounds()
        self.readiness = readiness
        # Of the scores, which are not simulated, a few items are enough to pass through every gate.
        request = self.workload.requests[0]
        few = request.model_copy(update={"items_ids": request.items_ids[:N_ITEMS]})
        self.workload = self.workload.model_copy(update={"requests": [few]})
        self.by_kind = {(r.backend, r.role): r for r in rounds if r.view == VIEW or r.role == "reference"}
        self.chunk = max(self.manifest.params["chunk_sizes"])

    def params(self, seed: int, most: int | None) -> Params:
        backends = [{"backend": name, "views": [VIEW]} for name in ("jax", "pytorch")]
        changes = {
            "backends": backends,
            "comparisons": [{"jax": "cpu", "pytorch": "cpu"}],
            "chunk_sizes": [self.chunk],
            "rounds": 10 if most is None else 5,
            "max_rounds": most,
            "seed": seed,
        }
        return Params.model_validate(self.manifest.params | changes)

    def round(self, planned: PlannedRound, seconds: list[float]) -> Round:
        """The recorded round of this kind at another place, its passes taking so many seconds."""
        recorded = self.by_kind[planned.backend, planned.role]
        cells = []
        for cell in recorded.cells:
            if planned.role != "reference" and cell.chunk_size != self.chunk:
                continue
            shape = cell.call_ns[0]
            n_calls = sum(map(len, shape))
            passes = [[[int(s * cell.slowdown * 1e9 / n_calls)] * len(q) for q in shape] for s in seconds]
            scores = [rows[:N_ITEMS] for rows in cell.scores[:1]]
            cells.append(cell.model_copy(update={"call_ns": passes, "repeats": 1, "scores": scores}))
        place = planned.model_dump()
        return recorded.model_copy(update=place | {"cells": cells, "noise": None})


def simulate(template: Template, seed: int, ratio: float, scatter: float, drift: float, most: int | None) -> dict:
    """One run, from its first round to its verdict."""
    rng = np.random.default_rng([seed, int(ratio * 100), int(scatter * 100), int(drift * 100), most or 0])
    params = template.params(seed, most)
    plan = plan_rounds(params)
    manifest = Manifest.model_construct(
        **(dict(template.manifest) | {"params": params.model_dump(mode="json"), "plan": plan})
    )
    rounds = []
    for planned in plan:
        base = SECONDS * (ratio if planned.backend == "jax" else 1.0)
        process = math.exp(rng.normal(0, scatter)) * (TAIL if rng.random() < TAIL_SHARE else 1.0)
        moved = 1 + drift * planned.position / len(plan)
        passes = base * process * moved * np.exp(rng.normal(0, PASS_SCATTER, 4))
        rounds.append(template.round(planned, passes.tolist()))
    for count in look_schedule(manifest.params).counts:
        recorded = [r for r in rounds if r.index <= params.tuning_rounds + count - 1]
        comparison = compare_run(manifest, template.workload, template.readiness, recorded)
        if comparison.settled:
            break
    (contrast,) = comparison.contrasts
    return {"verdict": contrast.verdict, "rounds": contrast.n_rounds, "reason": contrast.reason}


def peeking(scatter: float, ratio: float, n: int = 2000, most: int = 40) -> float:
    """How often a plain 95 % interval, looked at after every round from the fifth, lies beyond the margin some time."""
    rng, wins = np.random.default_rng(9), 0
    for _ in range(n):
        logs = rng.normal(math.log(ratio), scatter * math.sqrt(2), most)
        for k in range(5, most + 1):
            half = stats.t.ppf(0.975, k - 1) * logs[:k].std(ddof=1) / math.sqrt(k)
            if abs(logs[:k].mean()) - half > math.log1p(0.03):
                wins += 1
                break
    return wins / n


def one_case(arguments: tuple[str, str, int]) -> tuple[str, dict]:
    folder, name, n = arguments
    template = Template(RunStore(folder))
    found = [simulate(template, seed, *CASES[name]) for seed in range(n)]
    verdicts = Counter(f["verdict"] for f in found)
    reasons = Counter(f["reason"][:60] for f in found if f["verdict"] in ("invalid", "not_enough_evidence"))
    wins = verdicts["jax"] + verdicts["pytorch"]
    return name, {
        "runs": n,
        "wins": wins / n,
        "of the faster": verdicts["pytorch"] / n,
        "verdicts": dict(verdicts),
        "rounds": dict(sorted(Counter(f["rounds"] for f in found).items())),
        "without verdict because": dict(reasons.most_common(4)),
    }


def main(folder: str, n: int, words: str) -> None:
    """Every case whose name holds the words; what is known of others stays."""
    known = json.loads((HERE / "simulated.json").read_text()) if words else {}
    asked = [name for name in CASES if words in name]
    with multiprocessing.Pool(2) as pool:
        known |= dict(pool.imap_unordered(one_case, [(folder, name, n) for name in asked]))
    found = {name: known[name] for name in CASES}
    found["for comparison: plain 95 % intervals looked at after every round, true 3 %, scatter 2 %"] = {
        "wins": peeking(0.02, 1.03)
    }
    (HERE / "simulated.json").write_text(json.dumps(found, indent=1) + "\n")
    for name, case in found.items():
        print(f"{name}: {case}")


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 1000, " ".join(sys.argv[3:]))
