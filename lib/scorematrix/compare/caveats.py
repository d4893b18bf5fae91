"""What does not stop a verdict, but a careful reader wants to know: about the machine, the checkout, the protocol."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from scorematrix.compare.controls import ControlEvidence
from scorematrix.compare.evidence import SideEvidence
from scorematrix.compare.records import measured_again, overlapping
from scorematrix.compare.rounds import slowdown_of
from scorematrix.results.manifest import Manifest
from scorematrix.results.schema import SERVER_VIEW, Round

SCATTER = 0.1
"""A standard deviation over rounds of this share of the mean, or more (rule 20)."""
TAKEN = 0.1
"""A share of the cores that others took, or more."""
BUSY = 1.5
"""A load average of so much a core."""
PEAKS_APART = 2.0
"""One device's matmul peak, measured in two frameworks, may differ so much."""
MOST_NAMED = 4
"""Of more rounds only the number is told."""


def caveats(
    manifest: Manifest,
    rounds: Sequence[Round],
    sides: Sequence[SideEvidence],
    controls: Sequence[ControlEvidence],
) -> list[str]:
    """All warnings of a run, the gravest first."""
    found = [*_void(rounds), *_protocol(controls), *_checkout(rounds), *_machine(rounds), *_lost(rounds)]
    found += [*_again(rounds), *_together(rounds)]
    return [*found, *_servers(manifest, rounds), *_scatter(sides), *_cost_sources(manifest)]


def _void(rounds: Iterable[Round]) -> list[str]:
    return [f"{r.name} is void: {why}" for r in rounds if (why := slowdown_of(r)) is not None]


def _protocol(controls: Sequence[ControlEvidence]) -> list[str]:
    if controls:
        return []
    return ["this run has no control rounds: it does not show that a known difference would have been found"]


def _checkout(rounds: Iterable[Round]) -> list[str]:
    found = []
    commits = {(e.git_commit, e.git_dirty) for r in rounds if (e := r.environment) and e.git_commit}
    if len({commit for commit, _ in commits}) > 1:
        found.append(f"rounds were measured at {len(commits)} different commits of this repository")
    if any(dirty for _, dirty in commits):
        found.append("rounds were measured with uncommitted changes in the checkout")
    return found


def _machine(rounds: Sequence[Round]) -> list[str]:
    found = []
    busy = [r.name for r in rounds if (e := r.environment) and e.load_average > BUSY * len(e.affinity)]
    if busy:
        found.append(f"{len(busy)} rounds began on a busy machine (load average above {BUSY:g} a core): {_some(busy)}")
    for field, by_whom in (("others_share", "other processes"), ("stolen_share", "the machine below this one")):
        taken = [r.name for r in rounds if r.noise and (getattr(r.noise, field) or 0.0) >= TAKEN]
        if taken:
            found.append(f"{by_whom} took {TAKEN:.0%} of the cores or more in {len(taken)} rounds: {_some(taken)}")
    shared = [r.name for r in rounds if r.noise and any(gpu.other_processes for gpu in r.noise.gpus)]
    if shared:
        found.append(f"other processes held the GPU in {len(shared)} rounds: {_some(shared)}")
    spun = [r for r in rounds if r.waiting == "spinning" and r.role == "confirm" and _taken(r) >= TAKEN]
    if spun and all(_taken(r) < TAKEN for r in rounds if r.role == "tuning"):
        found.append(
            f"threads spin while they wait, as tuning chose on a quiet machine, but other processes were busy in "
            f"{len(spun)} later rounds, which can slow such threads severalfold"
        )
    return found


def _taken(round_: Round) -> float:
    return (round_.noise.others_share if round_.noise else None) or 0.0


def _lost(rounds: Sequence[Round]) -> list[str]:
    again = [f"{r.name} ({r.lost[-1].reason})" for r in rounds if r.lost]
    words = f"{len(again)} rounds were measured again because a node of the cluster was lost: {_some(again)}"
    return [words] if again else []


def _again(rounds: Sequence[Round]) -> list[str]:
    return [
        f"{len(names)} rounds of {backend} {view} on {target} were measured again: {_some(names)}"
        for (backend, view, target), names in measured_again(rounds).items()
    ]


def _together(rounds: Sequence[Round]) -> list[str]:
    found = []
    if pairs := overlapping(rounds):
        found.append(f"{len(pairs)} pairs of rounds overlap in time, or the wall clock was set: {_some(pairs)}")
    if len(runs := sorted({r.run_id for r in rounds})) > 1:
        found.append(f"rounds of {len(runs)} runs are merged: {_some(runs)}")
    peaks: dict[str, dict[str, float]] = {}
    for r in rounds:
        if r.ceilings and r.record:
            own = peaks.setdefault(f"{r.target}, {r.record.dtype}", {})
            own[r.backend] = max(own.get(r.backend, 0.0), r.ceilings.matmul_flops_per_second)
    for where, own in peaks.items():
        low, high = min(own, key=own.__getitem__), max(own, key=own.__getitem__)
        if own[high] > PEAKS_APART * own[low]:
            found.append(f"on {where} {high} measured {own[high] / own[low]:.1f} times the matmul peak of {low}")
    return found


def _servers(manifest: Manifest, rounds: Sequence[Round]) -> list[str]:
    """What only a live server can do: fail and be started again, or run where nobody here has looked."""
    asked = [r for r in rounds if r.view == SERVER_VIEW and r.record]
    placed = {b["backend"] for b in manifest.params["backends"] if (b.get("server") or {}).get("url")}
    found = []
    if failed := [r.name for r in rounds if r.events]:
        found.append(f"a live server failed requests or died in {len(failed)} rounds: {_some(failed)}")
    if kept := sorted({r.backend for r in asked if r.record and r.record.settings.get("reuse_prefix")}):
        found.append(f"{_some(kept)} kept queries between requests: repeated passes did not compute them anew")
    if away := sorted({f"{r.backend} on {r.target}" for r in asked if r.backend in placed}):
        found.append(f"{_some(away)} ran at an address: nobody here has checked its device and flags")
    return found


def _scatter(sides: Iterable[SideEvidence]) -> list[str]:
    found = {}
    for side in sides:
        for chunk in side.chunk_sizes:
            seconds = list(side.seconds_by_round(chunk).values())
            share = float(np.std(seconds, ddof=1) / np.mean(seconds)) if len(seconds) > 2 else 0.0
            if share >= SCATTER:
                found[f"{side.backend} {side.view} on {side.target}, chunk {chunk}: {share:.0%}"] = share
    if not found:
        return []
    worst = sorted(found, key=found.__getitem__, reverse=True)
    return [
        f"the rounds' times scatter by {SCATTER:.0%} of their mean or more in {len(found)} cells (other work on the "
        f"machine, or a changing clock): {_some(worst)}"
    ]


def _cost_sources(manifest: Manifest) -> list[str]:
    return [
        f"the price of {target} is {price['usd_per_hour']:g} $ an hour by {price['source']} on {price['date']}"
        for target, price in (manifest.params.get("prices") or {}).items()
    ]


def _some(names: Sequence[str]) -> str:
    rest = f" and {len(names) - MOST_NAMED} more" if len(names) > MOST_NAMED else ""
    return "; ".join(names[:MOST_NAMED]) + rest
