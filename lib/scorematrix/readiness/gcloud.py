"""The gcloud commands that create, describe and delete a machine. Nothing runs on import."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

Resource = Literal["instance", "tpu_vm", "queued_resource"]

_GROUPS: dict[Resource, tuple[str, ...]] = {
    "instance": ("compute", "instances"),
    "tpu_vm": ("compute", "tpus", "tpu-vm"),
    "queued_resource": ("compute", "tpus", "queued-resources"),
}
_STATE_FIELDS: dict[Resource, str] = {"instance": "status", "tpu_vm": "state", "queued_resource": "state.state"}
RUNNING: dict[Resource, str] = {"instance": "RUNNING", "tpu_vm": "READY", "queued_resource": "ACTIVE"}
"""The state in which a resource is usable. STAGING and similar are not: a machine can reach them and vanish."""
FAILED = (
    "FAILED",
    "SUSPENDED",
    "SUSPENDING",
    "TERMINATED",
    "STOPPED",
    "STOPPING",
    "PREEMPTED",
    "DELETING",
    "REPAIRING",
)
"""States from which waiting does not lead to a running resource."""
NOT_FOUND = ("was not found", "not found", "notfound", "not_found", "code=404")


@dataclass(frozen=True)
class Answer:
    """Output of a command. `returncode` is None if it timed out."""

    returncode: int | None
    text: str

    @property
    def says_not_found(self) -> bool:
        """Whether it failed because there is no such resource."""
        return self.returncode not in (0, None) and any(phrase in self.text.lower() for phrase in NOT_FOUND)


def create_command(
    resource: Resource, name: str, zone: str, machine_type: str, version: str | None, extra: Sequence[str]
) -> list[str]:
    """Return the command that creates a resource, with JSON output and without prompts."""
    kind = {"instance": "--machine-type", "tpu_vm": "--accelerator-type", "queued_resource": "--accelerator-type"}
    arguments = [f"--zone={zone}", f"{kind[resource]}={machine_type}"]
    if resource == "queued_resource":
        arguments.append(f"--node-id={name}")
    if version is not None:
        arguments.append(f"--{'version' if resource == 'tpu_vm' else 'runtime-version'}={version}")
    return ["gcloud", *_GROUPS[resource], "create", name, *arguments, *extra, "--format=json", "--quiet"]


def state_command(resource: Resource, name: str, zone: str) -> list[str]:
    """Return the command that prints the state of a resource as one word."""
    field = _STATE_FIELDS[resource]
    return ["gcloud", *_GROUPS[resource], "describe", name, f"--zone={zone}", f"--format=value({field})", "--quiet"]


def delete_command(resource: Resource, name: str, zone: str) -> list[str]:
    """Return the command that deletes a resource."""
    force = ["--force"] if resource == "queued_resource" else []
    return ["gcloud", *_GROUPS[resource], "delete", name, f"--zone={zone}", *force, "--quiet"]


def ask(command: Sequence[str], timeout_seconds: float) -> Answer:
    """Run a command to its end or its time limit; bytes that are not UTF-8 are replaced in its output.

    Raises:
        ValueError: if gcloud is not installed.
    """
    if shutil.which(command[0]) is None:
        raise ValueError(
            f"{command[0]} is not on PATH; install the Google Cloud CLI and log in, or describe what you tried in a "
            "readiness file (see params/readiness/)"
        )
    # A new session, so that the processes that gcloud starts can be killed with it.
    process = subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True
    )
    try:
        output, _ = process.communicate(timeout=timeout_seconds)
        return Answer(process.returncode, output.decode(errors="replace").strip())
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        output, _ = process.communicate()
        return Answer(None, f"no answer within {timeout_seconds:g} s. {output.decode(errors='replace')}".strip())
    except BaseException:
        os.killpg(process.pid, signal.SIGKILL)
        raise
