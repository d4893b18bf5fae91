"""Audit one backend from outside: contract, parity, isolation. No timing, no comparison with other backends."""

from scorematrix.audit.auditor import audit_backend
from scorematrix.audit.server import audit_server

__all__ = ["audit_backend", "audit_server"]
