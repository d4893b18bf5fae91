"""Serve any backend at `/v1/score`: the same front end for both frameworks, and a real server for tests."""

from scorematrix.servers.serve.app import ScoringApp
from scorematrix.servers.serve.batch_queue import BatchQueue
from scorematrix.servers.serve.limits import Limits
from scorematrix.servers.serve.noop import NoopBackend
from scorematrix.servers.serve.serve import serve

__all__ = ["BatchQueue", "Limits", "NoopBackend", "ScoringApp", "serve"]
