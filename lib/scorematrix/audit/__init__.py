"""Whether one backend tells the truth, asked from outside: contract, parity, isolation. No clock, no other backend."""

from scorematrix.audit.run import audit_backend
from scorematrix.audit.server import audit_server

__all__ = ["audit_backend", "audit_server"]
