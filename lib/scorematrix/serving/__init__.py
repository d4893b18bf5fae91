"""Serve any backend at `/v1/score`: the same front end for both frameworks, and a real server for tests."""

from scorematrix.serving.app import Limits, ScoringApp
from scorematrix.serving.line import ScoringLine
from scorematrix.serving.noop import NoopBackend
from scorematrix.serving.run import serve

__all__ = ["Limits", "NoopBackend", "ScoringApp", "ScoringLine", "serve"]
