"""A workload: the requests that every backend of a run scores, fixed as token ids, with a checksum."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field, model_validator

from scorematrix.checksum import SealedDocument
from scorematrix.workload.request import ScoreRequest


class WorkloadRequest(BaseModel):
    """One query with its items. Texts and gold answers are present only if the data set has them."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    id: str
    query_ids: list[int]
    items_ids: list[list[int]]
    label_ids: list[int]
    query_text: str | None = None
    item_texts: list[str] | None = None
    label_texts: list[str] | None = None
    gold: list[int] | None = Field(default=None, description="index into label_ids of each item's correct label")

    @model_validator(mode="after")
    def _lists_agree(self) -> WorkloadRequest:
        for name, values, wanted in (
            ("item_texts", self.item_texts, len(self.items_ids)),
            ("gold", self.gold, len(self.items_ids)),
            ("label_texts", self.label_texts, len(self.label_ids)),
        ):
            if values is not None and len(values) != wanted:
                raise ValueError(f"request {self.id!r}: {name} has {len(values)} entries, {wanted} are needed")
        if self.gold is not None and any(not 0 <= g < len(self.label_ids) for g in self.gold):
            raise ValueError(f"request {self.id!r}: gold contains an index outside 0..{len(self.label_ids) - 1}")
        return self


class Workload(SealedDocument):
    """Requests and how to read out their scores, with a SHA-256 over everything."""

    name: str
    origin: str = Field(description="generator or data set, with all that reproduces it")
    apply_softmax: bool
    tokenizer_sha256: str | None
    requests: list[WorkloadRequest] = Field(min_length=1)

    @model_validator(mode="after")
    def _scorable(self) -> Workload:
        self.score_requests()
        return self

    def score_requests(self) -> list[ScoreRequest]:
        """Return the requests in the form that backends take."""
        return [
            ScoreRequest(tuple(r.query_ids), tuple(map(tuple, r.items_ids)), tuple(r.label_ids), self.apply_softmax)
            for r in self.requests
        ]

    def calls(self, chunk_size: int) -> list[list[ScoreRequest]]:
        """Return the calls of a pass at a chunk size: [request][call], in the order that a client would send them."""
        return [request.chunks(chunk_size) for request in self.score_requests()]

    @property
    def n_items(self) -> int:
        """Items over all requests."""
        return sum(len(request.items_ids) for request in self.requests)

    @property
    def n_tokens(self) -> int:
        """Query tokens plus item tokens over all requests, each query counted once."""
        return sum(len(r.query_ids) + sum(map(len, r.items_ids)) for r in self.requests)
