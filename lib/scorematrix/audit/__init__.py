"""Audit one backend from outside: contract, parity, isolation. No timing, no comparison with other backends."""

from scorematrix.audit.auditor import audit_backend

__all__ = ["audit_backend"]
