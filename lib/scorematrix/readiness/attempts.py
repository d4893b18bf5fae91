"""Turn provisioning attempts into a skip reason, its evidence and the next commands."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from scorematrix.privacy import redacted_output
from scorematrix.readiness.cloud_errors import Refusal, classify
from scorematrix.readiness.provision import region_of
from scorematrix.readiness.targets import Target, target
from scorematrix.results.target_records import Attempt, SkipReason, TargetRecord
from scorematrix.text_files import read_as

TELLING: tuple[SkipReason, ...] = ("permission", "quota", "capacity", "unsupported", "unknown")
"""Of several refusals, the first of these reasons must be cleared first."""
MOST_LETTERS = 200
"""Evidence quotes only this much of an error's text."""


class _Tried(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    at: date
    zone: Annotated[str, Field(pattern=r"^[a-z]+-[a-z]+\d+-[a-z]$")]
    machine_type: str
    outcome: Literal["refused", "vanished", "running"] = "refused"
    text: str = ""
    name: str | None = None


class _Written(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    targets: dict[Annotated[str, AfterValidator(lambda name: target(name).name)], list[_Tried]]


def load_written(path: Path | str) -> dict[str, TargetRecord]:
    """Read handwritten records; refusals are classified by their text.

    Raises:
        ValueError: one line that names the file, the key, its value, and the remedy.
    """
    written = read_as(_Written, Path(path), "readiness file", "params/readiness/")
    return {
        name: TargetRecord(target=name, attempts=[_attempt(tried) for tried in attempts])
        for name, attempts in written.targets.items()
    }


def _attempt(tried: _Tried) -> Attempt:
    kind = None if tried.outcome == "running" else classify(tried.text).kind
    return Attempt(
        at_utc=tried.at.isoformat(),
        zone=tried.zone,
        machine_type=tried.machine_type,
        name=tried.name,
        outcome=tried.outcome,
        kind=kind,
        text=redacted_output(tried.text),
    )


def summed_up(where: Target, attempts: Sequence[Attempt]) -> tuple[SkipReason, str, str]:
    """Return reason, evidence and next step for a target that this machine lacks."""
    last = attempts[-1]
    if last.outcome == "running":
        name = f" as {last.name}" if last.name else ""
        evidence = f"it is available elsewhere: {last.machine_type} runs in {last.zone}{name} since {last.at_utc[:10]}"
        return "no_device", evidence + _before(attempts[:-1]), f"there: {_there(where)}"
    if last.outcome in ("half_made", "begun"):
        evidence = (
            f"an attempt in {last.zone} on {last.at_utc[:10]} may have left {last.name} behind: {_short(last.text)}"
        )
        return "unknown", evidence, f"if it exists, delete it: `{last.teardown}`"
    telling = min(attempts, key=lambda a: (TELLING.index(_refusal(a).reason), -attempts.index(a)))
    refusal = _refusal(telling)
    count = f"{len(attempts)} attempt{'s' if len(attempts) > 1 else ''}"
    evidence = f"{count} in {_zones(attempts)}, the last on {last.at_utc[:10]}; {telling.zone}: "
    evidence += _short(telling.text)
    others = {_refusal(a).reason for a in attempts} - {refusal.reason}
    if others:
        evidence += f" (others: {', '.join(sorted(others))})"
    return refusal.reason, evidence, _next_step(where, refusal, telling)


def _refusal(attempt: Attempt) -> Refusal:
    refusal = classify(attempt.text)
    if attempt.outcome == "vanished" and refusal.kind == "unknown":
        return Refusal("preempted", "capacity", "same_zone")
    return refusal


def _next_step(where: Target, refusal: Refusal, attempt: Attempt) -> str:
    again = f"`scorematrix provision params/provision/{where.name.replace('-', '_')}.yaml --execute`"
    if refusal.reason == "permission":
        return f"request the right to create {attempt.machine_type}, then run {again}"
    if refusal.reason == "quota":
        region = refusal.where or region_of(attempt.zone)
        ask = (
            f"request the quota {refusal.quota.upper() if refusal.quota else f'for {attempt.machine_type}'} in {region}"
        )
        if where.quota_family:
            ask = (
                "`gcloud beta quotas preferences create --service=compute.googleapis.com "
                "--quota-id=GPUS-PER-GPU-FAMILY-per-project-region --preferred-value=1 "
                f"--dimensions=gpu_family={where.quota_family},region={region}`"
            )
        never = " (retrying never clears a limit of 0)" if refusal.limit == 0 else ""
        return f"{ask}{never}; once it is granted, run {again}"
    return f"run {again} later or in other zones; then there: {_there(where)}"


def _there(where: Target) -> str:
    return (
        f"clone the repository, `make setup EXTRAS={where.extra}`, run the same params; "
        "then here `scorematrix report RUN --merge THAT_RUN`"
    )


def _zones(attempts: Sequence[Attempt]) -> str:
    return ", ".join(dict.fromkeys(attempt.zone for attempt in attempts))


def _before(attempts: Sequence[Attempt]) -> str:
    if not attempts:
        return ""
    reasons = ", ".join(dict.fromkeys(f"{_refusal(a).reason} in {a.zone}" for a in attempts))
    return f"; refused before: {reasons}"


def _short(text: str) -> str:
    plain = " ".join(text.split())
    return plain if len(plain) <= MOST_LETTERS else plain[: MOST_LETTERS - 3] + "..."
