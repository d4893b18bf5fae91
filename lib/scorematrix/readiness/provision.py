"""Provision a target's machine, zone by zone. Every attempt is recorded, and names what it may have left behind."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from scorematrix.privacy import redacted_output
from scorematrix.readiness import gcloud
from scorematrix.readiness.cloud_errors import classify
from scorematrix.readiness.targets import target
from scorematrix.results.files import utc_now
from scorematrix.results.target_records import Attempt
from scorematrix.text_files import read_as

SAME_ZONE_TRIES = 2
"""Tries per zone if the machine was created and then taken away."""


class ProvisionPlan(BaseModel):
    """One target's machine, and the zones to try, in order."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    target: Annotated[str, AfterValidator(lambda name: target(name).name)]
    resource: Literal["instance", "tpu_vm", "queued_resource"]
    name: str = Field(pattern=r"^[a-z]([a-z0-9-]{0,48}[a-z0-9])?$", description="of the resource; one plan, one name")
    machine_type: str = Field(description="a machine type, or for a TPU its accelerator type")
    version: str | None = Field(default=None, description="of the TPU VM's software")
    zones: list[Annotated[str, Field(pattern=r"^[a-z]+-[a-z]+\d+-[a-z]$")]] = Field(min_length=1)
    extra: list[Annotated[str, Field(pattern=r"^--")]] = Field(
        default=[], description="further flags of the create command"
    )
    create_timeout_seconds: Annotated[float, Field(gt=0)] = 900.0
    poll_seconds: Annotated[float, Field(gt=0)] = 15.0
    wait_seconds: Annotated[float, Field(gt=0)] = 1200.0

    def create(self, zone: str) -> list[str]:
        """Return the command that creates the machine in a zone."""
        return gcloud.create_command(self.resource, self.name, zone, self.machine_type, self.version, self.extra)

    def delete(self, zone: str) -> list[str]:
        """Return the command that deletes it."""
        return gcloud.delete_command(self.resource, self.name, zone)


def load_plan(path: Path | str) -> ProvisionPlan:
    """Read and validate a plan.

    Raises:
        ValueError: one line that names the file, the key, its value, and the remedy.
    """
    return read_as(ProvisionPlan, Path(path), "provision plan", "params/provision/")


def provision(
    plan: ProvisionPlan,
    on_attempt: Callable[[Attempt], None],
    *,
    sleep: Callable[[float], None] = time.sleep,
) -> Attempt | None:
    """Request the machine in each zone until one provides it; return that attempt, None if no zone does.

    Args:
        on_attempt: called when an attempt starts and when it ends. A killed process thus leaves a record of the
            resource that it may have created.

    Raises:
        ValueError: if gcloud is not installed; nothing was requested.
    """
    closed_regions: set[str] = set()
    for zone in plan.zones:
        if region_of(zone) in closed_regions:
            continue
        attempt = _try(plan, zone, on_attempt, sleep)
        for _ in range(SAME_ZONE_TRIES - 1):
            if attempt.outcome in ("running", "half_made") or classify(attempt.text).next_try != "same_zone":
                break
            attempt = _try(plan, zone, on_attempt, sleep)
        if attempt.outcome == "running":
            return attempt
        refusal = classify(attempt.text)
        if attempt.outcome == "half_made" or refusal.next_try == "never":
            return None
        if refusal.next_try == "another_region":
            closed_regions.add(region_of(zone))
    return None


def _try(
    plan: ProvisionPlan,
    zone: str,
    on_attempt: Callable[[Attempt], None],
    sleep: Callable[[float], None],
) -> Attempt:
    begun = Attempt(
        at_utc=utc_now(),
        zone=zone,
        machine_type=plan.machine_type,
        name=plan.name,
        outcome="begun",
        text="",
        teardown=" ".join(plan.delete(zone)),
    )
    on_attempt(begun)
    answer = gcloud.ask(plan.create(zone), plan.create_timeout_seconds)
    if answer.returncode == 0:
        outcome, text = _wait(plan, zone, sleep)
    else:
        outcome, text = "refused", answer.text
        # Despite a refusal the resource may exist: it is used if it runs, else deleted.
        state = gcloud.ask(gcloud.state_command(plan.resource, plan.name, zone), 60)
        if answer.returncode is None or state.returncode == 0:
            outcome, text = _settle(plan, zone, state, answer.text)
    ended = begun.model_copy(update={"outcome": outcome, "text": redacted_output(text)[:4000], **_class(outcome, text)})
    on_attempt(ended)
    return ended


def _wait(plan: ProvisionPlan, zone: str, sleep: Callable[[float], None]) -> tuple[str, str]:
    """Poll until it runs, fails, vanishes, or time is up."""
    command = gcloud.state_command(plan.resource, plan.name, zone)
    end, seen = time.monotonic() + plan.wait_seconds, "nothing"
    while True:
        answer = gcloud.ask(command, 60)
        if answer.says_not_found:
            return "vanished", f"it was created, reached {seen}, and vanished: {answer.text}"
        if answer.returncode == 0:
            seen = answer.text.split()[-1].upper() if answer.text.split() else "no state"
            if seen == gcloud.RUNNING[plan.resource]:
                return "running", f"state {seen}"
            if seen in gcloud.FAILED:
                return _settle(plan, zone, answer, f"it was created and is in state {seen}")
        if time.monotonic() >= end:
            return _settle(
                plan, zone, answer, f"it was created and did not run within {plan.wait_seconds:g} s ({seen})"
            )
        sleep(plan.poll_seconds)


def _settle(plan: ProvisionPlan, zone: str, state: gcloud.Answer, why: str) -> tuple[str, str]:
    """Keep a resource that runs after all; delete any other, and name it if that fails."""
    if state.returncode == 0 and state.text.split()[-1:] == [gcloud.RUNNING[plan.resource]]:
        return "running", f"state {state.text.split()[-1]}, though the create command said: {why}"
    if state.says_not_found:
        return "refused", why
    answer = gcloud.ask(plan.delete(zone), 600)
    if answer.returncode == 0 or answer.says_not_found:
        return "refused", f"{why}; what was there is deleted"
    return "half_made", f"{why}; deleting it failed: {answer.text}"


def _class(outcome: str, text: str) -> dict[str, str]:
    return {} if outcome == "running" else {"kind": classify(text).kind}


def region_of(zone: str) -> str:
    """Return the region of a zone: us-central1 for us-central1-b."""
    return zone.rpartition("-")[0]


def dry_run(plan: ProvisionPlan) -> Sequence[str]:
    """Return the commands that would run, in order, if every zone refused."""
    return [" ".join(plan.create(zone)) for zone in plan.zones]
