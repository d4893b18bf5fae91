"""What each target can do now, and if nothing, why and what next."""

from scorematrix.readiness.devices import Machine, probe_machine
from scorematrix.readiness.record import check_readiness
from scorematrix.readiness.targets import TARGETS, Target, target

__all__ = ["TARGETS", "Machine", "Target", "check_readiness", "probe_machine", "target"]
