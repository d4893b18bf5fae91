"""The few gcloud commands that get a machine, look at it, and give it back. Nothing is run on import."""

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
"""The state in which a resource can be used. STAGING and the like are not it: a machine can reach them and vanish."""
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
"""States from which a resource does not come to run by waiting."""
NOT_FOUND = ("was not found", "not found", "notfound", "not_found", "code=404")


@dataclass(frozen=True)
class Answer:
    """What a command said. `returncode` is None where it did not end in its time."""

    returncode: int | None
    text: str

    @property
    def says_not_found(self) -> bool:
        """Whether it failed because there is no such resource."""
        return self.returncode not in (0, None) and any(words in self.text.lower() for words in NOT_FOUND)


def create_command(
    resource: Resource, name: str, zone: str, machine_type: str, version: str | None, extra: Sequence[str]
) -> list[str]:
    """Make a resource; its answer comes as JSON, and no question is asked."""
    kind = {"instance": "--machine-type", "tpu_vm": "--accelerator-type", "queued_resource": "--accelerator-type"}
    arguments = [f"--zone={zone}", f"{kind[resource]}={machine_type}"]
    if resource == "queued_resource":
        arguments.append(f"--node-id={name}")
    if version is not None:
        arguments.append(f"--{'version' if resource == 'tpu_vm' else 'runtime-version'}={version}")
    return ["gcloud", *_GROUPS[resource], "create", name, *arguments, *extra, "--format=json", "--quiet"]


def state_command(resource: Resource, name: str, zone: str) -> list[str]:
    """One word: the state of a resource."""
    field = _STATE_FIELDS[resource]
    return ["gcloud", *_GROUPS[resource], "describe", name, f"--zone={zone}", f"--format=value({field})", "--quiet"]


def delete_command(resource: Resource, name: str, zone: str) -> list[str]:
    """Give a resource back."""
    force = ["--force"] if resource == "queued_resource" else []
    return ["gcloud", *_GROUPS[resource], "delete", name, f"--zone={zone}", *force, "--quiet"]


def ask(command: Sequence[str], timeout_seconds: float) -> Answer:
    """Run a command to its end or its time limit; whatever it says is text, however broken.

    Raises:
        ValueError: where gcloud is not installed.
    """
    if shutil.which(command[0]) is None:
        raise ValueError(
            f"{command[0]} is not on PATH; install the Google Cloud CLI and log in, or describe what you tried in a "
            "readiness file (see params/readiness/)"
        )
    # A session of its own: gcloud starts processes, and all of them end with it.
    process = subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True
    )
    try:
        said, _ = process.communicate(timeout=timeout_seconds)
        return Answer(process.returncode, said.decode(errors="replace").strip())
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        said, _ = process.communicate()
        return Answer(None, f"no answer within {timeout_seconds:g} s. {said.decode(errors='replace')}".strip())
    except BaseException:
        os.killpg(process.pid, signal.SIGKILL)
        raise
