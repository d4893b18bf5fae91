"""Clock, time limits and the record of the machine. Knows no framework."""

from scorematrix.measure.clock import PassSample, RequestSample, time_pass, time_request
from scorematrix.measure.environment import describe_environment
from scorematrix.measure.process import set_up_process
from scorematrix.measure.watchdog import Watchdog

__all__ = [
    "PassSample",
    "RequestSample",
    "Watchdog",
    "describe_environment",
    "set_up_process",
    "time_pass",
    "time_request",
]
