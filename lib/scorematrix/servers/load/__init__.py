"""Put live servers under load with a generator that proves it is not the bottleneck.

`servers.client` sends one request at a time, as a backend does, and `measure` times one call after the other. Neither
shows what happens when many clients send at once. That needs a schedule that does not wait for the server, latencies
from the scheduled time of each request, and accounts that lose no request. This package implements rules 27 to 29 of
the measurement rulebook.
"""

from scorematrix.servers.load.ceiling import generator_ceiling, idle_server, sound_answer
from scorematrix.servers.load.generator import LoadGenerator, poisson_arrivals
from scorematrix.servers.load.measure import find_saturation, measure_load
from scorematrix.servers.load.request_log import LostRequest, Plan

__all__ = [
    "LoadGenerator",
    "LostRequest",
    "Plan",
    "find_saturation",
    "generator_ceiling",
    "idle_server",
    "measure_load",
    "poisson_arrivals",
    "sound_answer",
]
