"""A backend that answers at once, to measure a server or a load generator without a model."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from scorematrix.scoring import BackendInfo, CompileEvent, Scores
from scorematrix.workload import ScoreRequest


class NoopBackend:
    """Return equal probabilities for every item. Not in the registry, so no comparison can use it."""

    def __init__(self) -> None:
        self.info = BackendInfo(
            backend="noop", view="none", framework="none", device="cpu", dtype="float32", precision="computes nothing"
        )
        self.compile_events: list[CompileEvent] = []

    def prepare(self, requests: Sequence[ScoreRequest]) -> None:
        pass

    def score(self, request: ScoreRequest) -> Scores:
        shape = (len(request.items_ids), len(request.label_ids))
        return np.full(shape, 1 / len(request.label_ids), dtype=np.float32)
