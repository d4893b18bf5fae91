"""Merge rounds of one plan, measured on several machines, into one run folder."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

from scorematrix.results.schema import Round
from scorematrix.results.store import RunStore
from scorematrix.results.target_records import Readiness


def merge_runs(into: RunStore, others: Sequence[RunStore]) -> list[str]:
    """Copy the rounds of other runs of the same params and workload; return one summary line per run.

    All checks come before the first write. A round that `into` already has, identical to the last bit, is skipped.
    The result does not depend on the order of the runs.

    Raises:
        ValueError: naming the field and both values if the runs do not match, or the round that two runs measured.
    """
    with into.lock():
        known = {round_.name: round_ for round_ in into.rounds()}
        taken: dict[str, Round] = {}
        lines = []
        for other in others:
            _check_same_plan(into, other)
            new, same = 0, 0
            for round_ in other.rounds():
                before = known.get(round_.name) or taken.get(round_.name)
                if before is None:
                    taken[round_.name] = round_
                    new += 1
                elif before.sha256 == round_.sha256:
                    same += 1
                else:
                    raise ValueError(
                        f"round {round_.name} was measured twice: {into.folder.name} has sha256="
                        f"{before.sha256[:12]}..., {other.folder.name} has {round_.sha256[:12]}...; "
                        "a run can have it only once: remove it from one of the two"
                    )
            lines.append(f"{other.folder.name}: {new} rounds merged, {same} already present")
        _check_same_weights([*known.values(), *taken.values()])
        studies = _newest_studies([*into.studies(), *(study for other in others for study in other.studies())])
        for round_ in taken.values():
            into.write_round(round_)
            into.note("merged", round_.name)
        for study in studies:
            into.write_study(study)
        into.write_readiness(keep_reached(into.readiness(), [*known.values(), *taken.values()]))
    return lines


def keep_reached(readiness: Readiness, rounds: Collection[Round]) -> Readiness:
    """Mark skipped pairs that have a measured cell as ready, whatever this machine can run now."""
    reached = {(r.target, r.backend) for r in rounds if any(cell.status == "ok" for cell in r.cells)}
    states = [
        s.model_copy(update={"state": "ready", "reason": None, "next_step": None, "evidence": "rounds are recorded"})
        if s.state == "skipped" and (s.target, s.backend) in reached
        else s
        for s in readiness.states
    ]
    return Readiness(**(dict(readiness) | {"sha256": "", "states": states}))


def _newest_studies(studies: Sequence[Any]) -> list[Any]:
    """Return the newest study of each server. Studies decide no verdict, so older ones are not needed."""
    newest: dict[str, Any] = {}
    for study in sorted(studies, key=lambda s: (s.at_utc, s.sha256)):
        newest[study.name] = study
    return list(newest.values())


def _check_same_plan(one: RunStore, other: RunStore) -> None:
    ours, theirs = one.manifest(), other.manifest()
    for field in ("workload_sha256", "params_sha256"):
        mine, its = getattr(ours, field), getattr(theirs, field)
        if mine != its:
            detail = first_difference(ours.params, theirs.params) if field == "params_sha256" else ""
            raise ValueError(
                f"{field} differs: {one.folder.name} has {mine[:12]}..., {other.folder.name} has {its[:12]}..."
                f"{detail}; only runs of the same params file can be merged"
            )


def _check_same_weights(rounds: Sequence[Round]) -> None:
    for field in ("protocol", "weights_sha256"):
        by_value = {getattr(r, field): r.name for r in rounds if r.error is None and getattr(r, field) is not None}
        if len(by_value) > 1:
            (one, its_round), (other, other_round) = list(by_value.items())[:2]
            raise ValueError(
                f"{field} differs: {its_round} has {str(one)[:12]}, {other_round} has {str(other)[:12]}; "
                "rounds of different protocols or models are not compared"
            )


def first_difference(ours: dict, theirs: dict) -> str:
    """Describe the first parameter in which two plans differ; empty if they are equal."""
    for key in sorted(ours.keys() | theirs.keys()):
        if ours.get(key) != theirs.get(key):
            return f" (params.{key}={ours.get(key)!r} against {theirs.get(key)!r})"
    return ""
