"""What the contract costs on 1 to 256 chips and for 10^3 to 10^9 items: on paper, and by a simulation beside it.

    python outputs/reference/scale/study.py              # study.json, scale.png and the tables of README.md; minutes
    python outputs/reference/scale/study.py --dispatch   # measure again what handing a request to a Ray actor takes

Nothing here was measured on a TPU or a GPU: every figure is an estimate, from what the compiler and the makers of the
chips say and from what this library reached of the measured ceiling of a CPU. README.md has the assumptions.
"""

from __future__ import annotations

import json
import math
import sys
import time
from dataclasses import asdict
from itertools import product

import numpy as np
from scale_model import (
    CHIPS,
    DECADES,
    HERE,
    ITEM,
    ITEMS,
    MFU,
    PARAMS,
    QUERY,
    START_SECONDS,
    TARGETS,
    best_on_paper,
    dispatch,
    setting,
    simulate,
)

from scorematrix.readiness import target


def study() -> dict:
    """Every point on paper; those of warm chips at the middle MFU simulated too, of the largest jobs some."""
    rows = []
    for name, cold, level in product(TARGETS, (False, True), MFU):
        on = setting(name, MFU[level], cold=cold)
        for items, chips in product(DECADES, CHIPS):
            found = best_on_paper(on, chips, items)
            row = {"target": name, "cold": cold, "mfu": level, **asdict(found)}
            row["chip_hours"] = found.chip_hours
            if level == "middle" and not cold and (items < 10**9 or chips in (1, 16, 256)):
                seeds = range(1 if items > 10**6 else 5)
                row["simulated_seconds"] = float(
                    np.mean([simulate(on, chips, items, found.shards, seed) for seed in seeds])
                )
            rows.append(row)
        print(name, "cold" if cold else "warm", level, flush=True)
    settings = {name: asdict(setting(name, MFU["middle"], cold=True)) for name in TARGETS}
    sheets = {name: f"{target(name).chip.source}, {target(name).chip.date}" for name in TARGETS}
    prices = {name: price.model_dump() for name, price in PARAMS.prices.items()}
    return {"settings": settings, "datasheets": sheets, "dispatch": dispatch(), "prices": prices, "rows": rounded(rows)}


def rounded(value: object) -> object:
    """Six digits are more than an estimate has."""
    match value:
        case float():
            return float(f"{value:.6g}")
        case dict():
            return {key: rounded(one) for key, one in value.items() if one != 0.0 or key == "cold"}
        case list():
            return [rounded(one) for one in value]
    return value


def measure_dispatch(calls: int = 2000) -> dict:
    """What a Ray driver takes to hand a request of the contract to an actor and to get its scores, calls in flight."""
    import ray

    from scorematrix.measure.environment import cpu_name

    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, object_store_memory=200 << 20)
    try:

        class Scorer:
            def score(self, ids: np.ndarray) -> np.ndarray:
                return np.zeros((ITEMS, 2), np.float32)

        scorer = ray.remote(Scorer).remote()
        ids = np.arange(QUERY + ITEMS * ITEM, dtype=np.int32)
        ray.get([scorer.score.remote(ids) for _ in range(200)])
        times = []
        for _ in range(5):
            begun = time.perf_counter()
            ray.get([scorer.score.remote(ids) for _ in range(calls)])
            times.append((time.perf_counter() - begun) / calls)
    finally:
        ray.shutdown()
    return {
        "seconds": float(np.median(times)),
        "runs": times,
        "on": f"Ray {ray.__version__}, one actor on the same {cpu_name()}, 2 cores",
    }


# What a reader sees.

WORDS = {
    "items": "computing",
    "query": "computing queries",
    "weights": "reading weights",
    "transfer": "to the chip and back",
    "start": "starting up",
    "losses": "lost chips",
    "stragglers": "idle chips at the end",
    "dispatch": "the driver's handing out",
    "ingress": "the network into the driver's host",
}
SHOWN = (1, 4, 16, 64, 256)
SHORT = {"items": "compute", "query": "queries", "stragglers": "idle", "dispatch": "driver"}


def tables(found: dict) -> str:
    """The tables of README.md, from study.json alone."""
    lines = [
        "| one chip, warm | items/s at MFU "
        + ", ".join(f"{m:.0%}" for m in MFU.values())
        + " | chip-hours a million items |"
    ]
    lines.append("|---" * 3 + "|")
    for name in TARGETS:
        ones = {
            r["mfu"]: r
            for r in found["rows"]
            if (r["target"], r["cold"], r["chips"], r["items"]) == (name, False, 1, 10**8)
        }
        rates = ", ".join(f"{ones[level]['items'] / ones[level]['seconds']:,.0f}" for level in MFU)
        hours = ", ".join(significant(ones[level]["chip_hours"] / 100) for level in MFU)
        lines.append(f"| {target(name).label} | {rates} | {hours} |")
    blocks = ["\n".join(lines)]
    for name, cold in product(TARGETS, (False, True)):
        rows = {(r["items"], r["chips"]): r for r in picked(found, target=name, cold=cold, mfu="middle")}
        how = f"chips started for the job, {START_SECONDS:.0f} s each" if cold else "chips that serve already"
        lines = [
            f"### {target(name).label}, {how}: estimate at {MFU['middle']:.0%} of the datasheet's peak",
            "",
            "| items | " + " | ".join(f"{chips} chip{'s' * (chips > 1)}" for chips in SHOWN) + " |",
            "|---" * (len(SHOWN) + 1) + "|",
        ]
        for items in DECADES:
            cells = [cell(rows[items, chips], found["prices"].get(name)) for chips in SHOWN]
            lines.append(f"| 10^{round(math.log10(items))} | " + " | ".join(cells) + " |")
        blocks.append("\n".join(lines))
    return "\n\n".join(blocks)


def picked(found: dict, **fields: object) -> list[dict]:
    """The rows with these values."""
    return [row for row in found["rows"] if all(row[name] == value for name, value in fields.items())]


def cell(row: dict, price: dict | None) -> str:
    """Time, cost and bottleneck of one point; in dollars only where the params have a price."""
    cost = f"{significant(row['chip_hours'])} chip-h"
    if price is not None:
        cost = f"${significant(row['chip_hours'] * price['usd_per_hour'])}"
    cut = f", 1/{row['shards']}" if row["shards"] > 1 else ""
    return f"{span(row['seconds'])}, {cost}, {SHORT.get(row['bottleneck'], row['bottleneck'])}{cut}"


def span(seconds: float) -> str:
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= size:
            return f"{significant(seconds / size)} {unit}"
    return f"{significant(seconds)} s"


def significant(value: float) -> str:
    digits = max(0, 1 - math.floor(math.log10(value))) if value > 0 else 0
    return f"{value:.{digits}f}"


def draw(found: dict) -> None:
    """Chip-hours a million items over the size of the job: where more chips cost more, and why."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    marks = {"items": "o", "start": "s", "stragglers": "D", "dispatch": "^", "query": "v", "ingress": "P"}
    figure, panels = plt.subplots(1, len(TARGETS), figsize=(11, 4.6), sharey=True, layout="constrained")
    colours = plt.get_cmap("viridis")(np.linspace(0, 0.9, len(CHIPS)))
    for axes, name in zip(panels, TARGETS, strict=True):
        for chips, colour in zip(CHIPS, colours, strict=True):
            rows = [
                r
                for r in found["rows"]
                if (r["target"], r["cold"], r["mfu"], r["chips"]) == (name, False, "middle", chips)
            ]
            xs, ys = [r["items"] for r in rows], [r["chip_hours"] / r["items"] * 1e6 for r in rows]
            axes.plot(xs, ys, color=colour, linewidth=1, label=f"{chips}")
            for x, y, row in zip(xs, ys, rows, strict=True):
                axes.plot(x, y, marks.get(row["bottleneck"], "x"), color=colour, markersize=5)
        axes.set(xscale="log", yscale="log", xlabel="items in the job", title=f"{target(name).label}, warm (estimate)")
        axes.grid(alpha=0.3)
    panels[0].set_ylabel("chip-hours a million items")
    panels[1].legend(title="chips", fontsize=8, ncols=2)
    seen = {row["bottleneck"] for row in picked(found, cold=False, mfu="middle")}
    key = [
        plt.Line2D([], [], linestyle="", color="black", marker=m, label=WORDS[k]) for k, m in marks.items() if k in seen
    ]
    panels[0].legend(handles=key, title="first bottleneck", fontsize=8)
    figure.savefig(HERE / "scale.png", dpi=110, metadata={"Software": None})


def main() -> None:
    if "--dispatch" in sys.argv:
        (HERE / "dispatch.json").write_text(json.dumps(measure_dispatch(), indent=1) + "\n")
        return
    if "--draw" not in sys.argv:
        found = study()
        rows = ",\n".join(json.dumps(row) for row in found.pop("rows"))  # one a line
        (HERE / "study.json").write_text(json.dumps(found, indent=1)[:-2] + f',\n "rows": [\n{rows}\n ]\n}}\n')
    found = json.loads((HERE / "study.json").read_text())
    draw(found)
    readme = (HERE / "README.md").read_text()
    before, rest = readme.split("<!-- tables -->\n", 1)
    _, after = rest.split("<!-- end -->", 1)
    (HERE / "README.md").write_text(f"{before}<!-- tables -->\n{tables(found)}\n<!-- end -->{after}")
    off = [abs(r["simulated_seconds"] / r["seconds"] - 1) for r in found["rows"] if "simulated_seconds" in r]
    print(f"{len(off)} points simulated; from the paper by {np.median(off):.1%} in the middle, {max(off):.1%} at most")


if __name__ == "__main__":
    main()
