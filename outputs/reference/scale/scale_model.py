"""A job of the contract on many chips, twice: in closed form, and event by event. README.md has the assumptions."""

from __future__ import annotations

import heapq
import json
import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy import stats

from scorematrix.matrix import load_params
from scorematrix.models import read_description
from scorematrix.models.flops import scoring_flops
from scorematrix.readiness import target

HERE = Path(__file__).resolve().parent
PARAMS = load_params(HERE.parents[2] / "params" / "contract.yaml")
CONFIG = read_description("random:qwen3-0.6b").config
QUERY, ITEMS, ITEM = PARAMS.workload.query_tokens, PARAMS.workload.n_items, PARAMS.workload.item_tokens
TARGETS = ("tpu-v6e-1", "gpu-g4")
CHIPS = tuple(2**k for k in range(9))
DECADES = tuple(10**k for k in range(3, 10))
MFU = {"low": 0.30, "middle": 0.45, "high": 0.60}
SHARDS = tuple(n for n in range(1, ITEMS + 1) if ITEMS % n == 0)
START_SECONDS = 60.0
BOUND = 0.05
"""How far a simulated job may be from the paper's, as a share; a test holds it."""


@dataclass(frozen=True)
class Setting:
    """What the job runs on: a chip's datasheet, and assumptions. README.md says where each comes from."""

    flops: float
    bandwidth: float
    mfu: float
    dispatch_seconds: float
    start_seconds: float
    weights_bytes: float = 1_503_417_344  # what the TPU's compiler counts as arguments of a call of 500
    host_to_device: float = 8e9
    call_seconds: float = 0.2e-3  # a program's launch and the scores' way back
    ingress: float = 10e9 / 8
    scatter: float = 0.03  # of one unit's time from another's
    between_losses: float = 100 * 3600.0
    restart_seconds: float = 120.0


@dataclass(frozen=True)
class Unit:
    """The work that is handed to a chip at once: a query with all of its items, or with a share of them."""

    items: int

    @property
    def token_bytes(self) -> int:
        """On the wire, four bytes a token."""
        return 4 * (QUERY + self.items * ITEM)

    def parts(self, on: Setting) -> dict[str, float]:
        """Seconds of a chip, by what it does in them."""
        query = scoring_flops(CONFIG, QUERY, []) / (on.flops * on.mfu)
        whole = scoring_flops(CONFIG, QUERY, [ITEM] * self.items) / (on.flops * on.mfu)
        return {
            "items": whole - query,
            "query": query,
            "weights": max(0.0, on.weights_bytes / on.bandwidth - whole),
            "transfer": self.token_bytes / on.host_to_device + on.call_seconds,
        }

    def seconds(self, on: Setting) -> float:
        return sum(self.parts(on).values())

    def release_seconds(self, on: Setting) -> float:
        """Between two units that leave the driver: it hands them out one after the other, over one line."""
        return max(on.dispatch_seconds, self.token_bytes / on.ingress)


@dataclass(frozen=True)
class Estimate:
    """A job on paper.

    Attributes:
        shares: of all chip-seconds that are paid, by what the chips do in them; they add up to 1.
        bottleneck: the driver or its network where they hand out more slowly than the chips work, so that more chips
            would not help; else what most chip-seconds go to.
    """

    chips: int
    items: int
    shards: int
    seconds: float
    shares: dict[str, float]
    bottleneck: str

    @property
    def chip_hours(self) -> float:
        return self.chips * self.seconds / 3600


def on_paper(on: Setting, chips: int, items: int, shards: int) -> Estimate:
    """Closed form: the slower of chips and driver, then what is lost at the start, at the end and with chips."""
    unit, n_units = Unit(ITEMS // shards), math.ceil(items / ITEMS) * shards
    parts, seconds = unit.parts(on), unit.seconds(on)
    release = unit.release_seconds(on)
    # A loss costs the restart and half of the unit in flight.
    slower = 1 + (on.restart_seconds + seconds / 2) / on.between_losses
    each = seconds * slower
    work, handing = n_units * each / chips, n_units * release
    # Of chips that keep step the last unit begins in wave `full`, behind those of its wave that were handed out before.
    full, place = divmod(n_units - 1, chips)
    in_step = max((full + 1) * each + (place + 1) * release, full * each + min(chips, n_units) * release)
    # In long jobs they fall out of step: at the end each is on average half a unit from being done.
    out_of_step = work + each * (1 - 1 / chips) / 2
    ends = out_of_step if on.scatter * math.sqrt(n_units / chips) > 0.25 else in_step
    busy = min(chips, n_units)
    slowest = seconds * math.expm1(on.scatter * stats.norm.ppf(busy / (busy + 1)))
    total = on.start_seconds + max(ends, handing + each) + slowest
    paid = chips * total
    spent = {name: n_units * value / paid for name, value in parts.items()}
    spent["start"] = on.start_seconds / total
    spent["losses"] = n_units * seconds * (slower - 1) / paid
    idle = max(0.0, 1 - sum(spent.values()))
    waits = "ingress" if unit.token_bytes / on.ingress > on.dispatch_seconds else "dispatch"
    driver_bound = handing > (full + 1) * each
    spent |= {"stragglers": 0.0, "dispatch": 0.0, "ingress": 0.0}
    spent[waits if driver_bound else "stragglers"] = idle
    first = waits if driver_bound else max(spent, key=spent.__getitem__)
    return Estimate(chips, items, shards, total, spent, first)


def best_on_paper(on: Setting, chips: int, items: int) -> Estimate:
    """The cut of requests that ends soonest; of those within 1 % the coarsest, which computes queries least often."""
    found = [on_paper(on, chips, items, shards) for shards in SHARDS]
    quickest = min(estimate.seconds for estimate in found)
    return next(estimate for estimate in found if estimate.seconds <= 1.01 * quickest)


def simulate(on: Setting, chips: int, items: int, shards: int, seed: int) -> float:
    """Seconds of the same job, event by event: units arrive at a queue, chips take them, fail and come back."""
    rng = np.random.default_rng([seed, chips, items, shards])
    unit, n_units = Unit(ITEMS // shards), math.ceil(items / ITEMS) * shards
    seconds, release = unit.seconds(on), unit.release_seconds(on)
    # A chip that is free, by time; each will be lost at a time of its own.
    free = [(on.start_seconds, chip) for chip in range(chips)]
    lost_at = (on.start_seconds + rng.exponential(on.between_losses, chips)).tolist()
    again: list[float] = []  # units that were lost in flight, by when that was seen
    draws, sent, done, end = iter(()), 0, 0, 0.0
    while done < n_units:
        now, chip = heapq.heappop(free)
        if sent < n_units and not (again and again[0] <= now):
            sent += 1
            begins = max(now, on.start_seconds + sent * release)
        else:
            begins = max(now, heapq.heappop(again))
        if (draw := next(draws, None)) is None:
            draws = iter((seconds * np.exp(rng.normal(0, on.scatter, 4096))).tolist())
            draw = next(draws)
        if lost_at[chip] < begins + draw:
            heapq.heappush(again, max(begins, lost_at[chip]))
            back = lost_at[chip] + on.restart_seconds
            lost_at[chip] = back + rng.exponential(on.between_losses)
            heapq.heappush(free, (max(now, back), chip))
            continue
        done += 1
        end = max(end, begins + draw)
        heapq.heappush(free, (begins + draw, chip))
    return end


def setting(name: str, mfu: float, *, cold: bool = False) -> Setting:
    """A target's chip by its datasheet; cold: chips are paid for from the moment that they begin to start up."""
    chip, start = target(name).chip, START_SECONDS if cold else 0.0
    return Setting(chip.bfloat16_flops_per_second, chip.memory_bytes_per_second, mfu, dispatch()["seconds"], start)


def dispatch() -> dict:
    return json.loads((HERE / "dispatch.json").read_text())
