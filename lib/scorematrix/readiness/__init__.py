"""Readiness of each target: what it can run now, or why it cannot and what to do next."""

from scorematrix.readiness.attempts import load_written
from scorematrix.readiness.cloud_errors import Refusal, classify
from scorematrix.readiness.devices import Machine, probe_machine
from scorematrix.readiness.provision import ProvisionPlan, dry_run, load_plan, provision
from scorematrix.readiness.record import check_readiness, frameworks_in
from scorematrix.readiness.targets import TARGETS, Target, target

__all__ = [
    "TARGETS",
    "Machine",
    "ProvisionPlan",
    "Refusal",
    "Target",
    "check_readiness",
    "classify",
    "dry_run",
    "frameworks_in",
    "load_plan",
    "load_written",
    "probe_machine",
    "provision",
    "target",
]
