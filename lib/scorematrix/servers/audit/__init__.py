"""Audit a live server: the gates of a backend, its contract of HTTP, its behaviour with several requests at once."""

from scorematrix.servers.audit.server import audit_server

__all__ = ["audit_server"]
