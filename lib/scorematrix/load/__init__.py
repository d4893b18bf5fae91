"""Live servers under load, by a generator that proves it is not the limit.

Why a room of its own: `scoring.server` asks in turn, as a backend does, and `measure` times one call after the other.
Whoever deploys a server asks what happens when many ask at once, and an answer to that needs what neither has: a
schedule that does not wait for the server, latencies from when a request was due, and accounts in which no request is
lost. Rules 27 to 29 of the measurement rulebook are kept here.
"""

from scorematrix.load.book import LostRequest, Plan
from scorematrix.load.ceiling import generator_ceiling, idle_server, sound_answer
from scorematrix.load.generator import LoadGenerator
from scorematrix.load.mlperf import run_mlperf
from scorematrix.load.run import find_saturation, measure_load
from scorematrix.load.schedule import poisson_arrivals

__all__ = [
    "LoadGenerator",
    "LostRequest",
    "Plan",
    "find_saturation",
    "generator_ceiling",
    "idle_server",
    "measure_load",
    "poisson_arrivals",
    "run_mlperf",
    "sound_answer",
]
