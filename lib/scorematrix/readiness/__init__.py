"""Readiness of each target: what it can run now, or why it cannot and what to do next."""

from scorematrix.readiness.attempts import load_written
from scorematrix.readiness.devices import Machine, probe_machine
from scorematrix.readiness.provision import dry_run, load_plan, provision
from scorematrix.readiness.record import check_readiness, frameworks_in
from scorematrix.readiness.targets import TARGETS, Target, target

__all__ = [
    "TARGETS",
    "Machine",
    "Target",
    "check_readiness",
    "dry_run",
    "frameworks_in",
    "load_plan",
    "load_written",
    "probe_machine",
    "provision",
    "target",
]
