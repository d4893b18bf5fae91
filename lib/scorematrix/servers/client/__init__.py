"""Live scoring servers as backends: HTTP clients, response checks, failure classes."""

from scorematrix.servers.client.about import StatedLimits, ask_about
from scorematrix.servers.client.answers import FaultKind, RequestRejected, ServerBusy, ServerFault, read_answer
from scorematrix.servers.client.client import ScoreClient
from scorematrix.servers.client.launched import ServerNotStarted
from scorematrix.servers.client.live import LiveBackend
from scorematrix.servers.dialects import DIALECTS, Dialect, checked_address, dialect_of

__all__ = [
    "DIALECTS",
    "Dialect",
    "FaultKind",
    "LiveBackend",
    "RequestRejected",
    "ScoreClient",
    "ServerBusy",
    "ServerFault",
    "ServerNotStarted",
    "StatedLimits",
    "ask_about",
    "checked_address",
    "dialect_of",
    "read_answer",
]
