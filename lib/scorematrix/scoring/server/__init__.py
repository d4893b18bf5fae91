"""Live scoring servers as backends: HTTP clients, response checks, failure classes."""

from scorematrix.scoring.server.about import ask_about
from scorematrix.scoring.server.answers import FaultKind, RequestRejected, ServerBusy, ServerFault, read_answer
from scorematrix.scoring.server.client import ScoreClient
from scorematrix.scoring.server.dialects import DIALECTS, Dialect, body_of, checked_address, dialect_of
from scorematrix.scoring.server.launched import ServerNotStarted
from scorematrix.scoring.server.live import LiveBackend
from scorematrix.scoring.server.stated import StatedLimits

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
    "body_of",
    "checked_address",
    "dialect_of",
    "read_answer",
]
