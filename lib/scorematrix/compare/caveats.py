"""Warn about the machine, the checkout and the protocol. Warnings never prevent a verdict."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from scorematrix.compare.controls import ControlEvidence
from scorematrix.compare.evidence import SideEvidence
from scorematrix.compare.records import measured_again, overlapping
from scorematrix.compare.rounds import slowdown_of
from scorematrix.compare.schema import Contrast
from scorematrix.results.schema import SERVER_VIEW, Manifest, Round
from scorematrix.results.target_records import Readiness

SCATTER = 0.1
"""Warn if the standard deviation over rounds is at least this share of the mean (rule 20)."""
TAKEN = 0.1
"""Warn if others took at least this share of the cores."""
BUSY = 1.5
"""Warn if the load average per core is above this."""
PEAKS_APART = 2.0
"""Warn if two frameworks' matmul peaks on one device differ by more than this factor."""
MOST_NAMED = 4
"""Warnings list this many items and count the rest."""


def caveats(
    manifest: Manifest,
    rounds: Sequence[Round],
    sides: Sequence[SideEvidence],
    controls: Sequence[ControlEvidence],
    contrasts: Sequence[Contrast],
    readiness: Readiness,
) -> list[str]:
    """Return all warnings of a run, the most serious first."""
    warnings = [*_recorded_skips(readiness, rounds), *_other_choice(sides), *_without_turns(rounds)]
    warnings += [*_void(rounds), *_protocol(controls), *_checkout(rounds), *_machine(rounds), *_lost(rounds)]
    warnings += [*_again(rounds), *_together(rounds)]
    warnings += [*_servers(manifest, rounds), *_unsteady(contrasts), *_scatter(sides)]
    return [*warnings, *_cost_sources(manifest)]


def _recorded_skips(readiness: Readiness, rounds: Sequence[Round]) -> list[str]:
    return [
        f"readiness.json says that {state.backend} was skipped on {state.target}, but {n} of its rounds are recorded"
        for state in readiness.skipped
        if (n := len([r for r in rounds if (r.target, r.backend) == (state.target, state.backend) and not r.error]))
    ]


def _other_choice(sides: Sequence[SideEvidence]) -> list[str]:
    """Name sides whose confirmation rounds drew tokens, as they do at the chosen chunk size, only at another size."""
    warnings = []
    for side in sides:
        drawn = {
            cell.chunk_size
            for r in side.confirm
            for cell in r.cells
            if any(turn.fresh_seed is not None for turn in cell.turns) and not side.faults(cell.chunk_size)
        }
        if drawn and side.best_chunk not in drawn:
            warnings.append(
                f"tuning rounds of {side.backend} {side.view} on {side.target} choose chunk {side.best_chunk}, but its "
                f"confirmation rounds measured chunk {min(drawn)} as the choice: tuning was repeated or edited"
            )
    return warnings


def _without_turns(rounds: Sequence[Round]) -> list[str]:
    alone = [r for r in rounds if r.role == "confirm" and r.alone_because]
    reasons = sorted({r.alone_because or "" for r in alone})
    return [f"{len(alone)} confirmation rounds took no turns with others: {_some(reasons)}"] if alone else []


def _void(rounds: Iterable[Round]) -> list[str]:
    return [f"{r.name} is void: {why}" for r in rounds if (why := slowdown_of(r)) is not None]


def _protocol(controls: Sequence[ControlEvidence]) -> list[str]:
    if controls:
        return []
    return ["this run has no control rounds, so nothing shows that it would detect a known difference"]


def _checkout(rounds: Iterable[Round]) -> list[str]:
    warnings = []
    commits = {(e.git_commit, e.git_dirty) for r in rounds if (e := r.environment) and e.git_commit}
    if len({commit for commit, _ in commits}) > 1:
        warnings.append(f"rounds were measured at {len(commits)} different commits of this repository")
    if any(dirty for _, dirty in commits):
        warnings.append("rounds were measured with uncommitted changes in the checkout")
    return warnings


def _machine(rounds: Sequence[Round]) -> list[str]:
    warnings = []
    busy = [r.name for r in rounds if (e := r.environment) and e.load_average > BUSY * len(e.affinity)]
    if busy:
        warnings.append(
            f"{len(busy)} rounds began on a busy machine (load average above {BUSY:g} per core): {_some(busy)}"
        )
    for field, by_whom in (("others_share", "other processes"), ("stolen_share", "the hypervisor")):
        taken = [r.name for r in rounds if r.noise and (getattr(r.noise, field) or 0.0) >= TAKEN]
        if taken:
            warnings.append(f"{by_whom} took {TAKEN:.0%} of the cores or more in {len(taken)} rounds: {_some(taken)}")
    shared = [r.name for r in rounds if r.noise and any(gpu.other_processes for gpu in r.noise.gpus)]
    if shared:
        warnings.append(f"other processes were on the GPU in {len(shared)} rounds: {_some(shared)}")
    tuning = [r for r in rounds if r.role == "tuning"]
    confirmed = [r for r in rounds if r.role == "confirm"]
    was_busy = any(_taken(r) >= TAKEN for r in tuning)
    spun = [r for r in confirmed if r.waiting == "spinning" and _taken(r) >= TAKEN]
    if spun and not was_busy:
        warnings.append(
            f"tuning chose spinning threads on a quiet machine, but other processes were busy in {len(spun)} later "
            "rounds, which can slow spinning threads severalfold"
        )
    waited = [r for r in confirmed if r.waiting == "passive" and _taken(r) < TAKEN]
    if waited and was_busy and "spinning" in {r.waiting for r in tuning}:
        warnings.append(
            f"tuning chose passively waiting threads while other processes were busy, but {len(waited)} later rounds "
            "found a quiet machine, on which spinning threads can be a third faster: tune again in a new run"
        )
    return warnings


def _taken(round_: Round) -> float:
    return (round_.noise.others_share if round_.noise else None) or 0.0


def _lost(rounds: Sequence[Round]) -> list[str]:
    again = [f"{r.name} ({r.lost[-1].reason})" for r in rounds if r.lost]
    warning = f"{len(again)} rounds were measured again because a cluster node was lost: {_some(again)}"
    return [warning] if again else []


def _again(rounds: Sequence[Round]) -> list[str]:
    return [
        f"{len(names)} rounds of {backend} {view} on {target} were measured again: {_some(names)}"
        for (backend, view, target), names in measured_again(rounds).items()
    ]


def _together(rounds: Sequence[Round]) -> list[str]:
    warnings = []
    if names := [r.name for r in rounds if r.clock_was_set_back]:
        warnings.append(
            f"the wall clock was set back during {len(names)} rounds, so their time stamps are not checked: "
            f"{_some(names)}"
        )
    if pairs := overlapping(rounds):
        warnings.append(f"{len(pairs)} pairs of rounds overlap in time, or the wall clock was set: {_some(pairs)}")
    if len(runs := sorted({r.run_id for r in rounds})) > 1:
        warnings.append(f"rounds of {len(runs)} runs are merged: {_some(runs)}")
    peaks: dict[str, dict[str, float]] = {}
    for r in rounds:
        if r.ceilings and r.record:
            peak = peaks.setdefault(f"{r.target}, {r.record.dtype}", {})
            peak[r.backend] = max(peak.get(r.backend, 0.0), r.ceilings.matmul_flops_per_second)
    for where, peak in peaks.items():
        low, high = min(peak, key=peak.__getitem__), max(peak, key=peak.__getitem__)
        if peak[high] > PEAKS_APART * peak[low]:
            warnings.append(f"on {where}, {high} measured {peak[high] / peak[low]:.1f} times the matmul peak of {low}")
    return warnings


def _servers(manifest: Manifest, rounds: Sequence[Round]) -> list[str]:
    """Warn about failures and restarts of live servers, kept queries, and servers that this run did not start."""
    served = [r for r in rounds if r.view == SERVER_VIEW and r.record]
    warnings = []
    if failed := [r.name for r in rounds if r.events]:
        warnings.append(f"a live server failed requests or died in {len(failed)} rounds: {_some(failed)}")
    if kept := sorted({r.backend for r in served if r.reuses_prefix}):
        warnings.append(f"{_some(kept)} kept queries between requests, so repeated passes did not recompute them")
    given = {(r.backend, r.target) for r in served if r.backend in manifest.given_servers}
    if unchecked := sorted(f"{backend} on {target}" for backend, target in given):
        warnings.append(f"{_some(unchecked)} ran at a given URL: this run did not check the device and flags")
    measured = {r.target for r in rounds if r.ceilings}
    if unmeasured := sorted(f"{backend} on {target}" for backend, target in given if target not in measured):
        warnings.append(
            f"{_some(unmeasured)}: the device's peak could not be measured from here, so the physics gate did not run; "
            "let the run launch the server on its machine"
        )
    return warnings


def _unsteady(contrasts: Iterable[Contrast]) -> list[str]:
    """Name comparisons whose ratio differs between pairs of rounds by more than the scatter of turns explains."""
    return [
        f"{c.name}, {c.view} view: the ratio scatters by {log:.1%} between pairs of rounds beyond what turns explain, "
        "because processes differ or the machine changed (its clock, other tenants of its host)"
        for c in contrasts
        if c.in_turns and (log := c.in_turns.process_log or 0.0) > c.margin
    ]


def _scatter(sides: Iterable[SideEvidence]) -> list[str]:
    shares = {}
    for side in sides:
        for chunk in side.chunk_sizes:
            seconds = list(side.seconds_by_round(chunk).values())
            share = float(np.std(seconds, ddof=1) / np.mean(seconds)) if len(seconds) > 2 else 0.0
            if share >= SCATTER:
                shares[f"{side.backend} {side.view} on {side.target}, chunk {chunk}: {share:.0%}"] = share
    if not shares:
        return []
    worst = sorted(shares, key=shares.__getitem__, reverse=True)
    return [
        f"round times scatter by {SCATTER:.0%} of their mean or more in {len(shares)} cells (other work on the "
        f"machine, or a changing clock): {_some(worst)}"
    ]


def _cost_sources(manifest: Manifest) -> list[str]:
    return [
        f"the price of {target} is {price['usd_per_hour']:g} USD per hour ({price['source']}, {price['date']})"
        for target, price in (manifest.params.get("prices") or {}).items()
    ]


def _some(names: Sequence[str]) -> str:
    rest = f" and {len(names) - MOST_NAMED} more" if len(names) > MOST_NAMED else ""
    return "; ".join(names[:MOST_NAMED]) + rest
