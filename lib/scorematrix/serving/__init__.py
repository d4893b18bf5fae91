"""Serve any backend at `/v1/score`: the same front end for both frameworks, and a real server for tests."""

from scorematrix.serving.app import ScoringApp
from scorematrix.serving.batch_queue import BatchQueue
from scorematrix.serving.limits import Limits
from scorematrix.serving.noop import NoopBackend
from scorematrix.serving.serve import serve

__all__ = ["BatchQueue", "Limits", "NoopBackend", "ScoringApp", "serve"]
