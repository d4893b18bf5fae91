"""Prepare the requests of a load as bytes. Every query is unique, so that no cache answers for the model."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

from scorematrix.servers.client import dialect_of
from scorematrix.servers.load.connection import Address
from scorematrix.workload import ScoreRequest
from scorematrix.workload.request import body_of

WIDTH = 9
"""Width that a varied token id is padded to. JSON allows spaces before a number, so the body's length is constant."""

BAD = (
    {"label_token_ids": [-1]},
    {"label_token_ids": [3, 3]},
    {"label_token_ids": None},
    {"query": []},
    {"items": [[]]},
    {"items": "no list", "query": [1]},
    {"apply_softmax": "yes"},
    {"items": [[1.5]]},
    {"query": [10**9]},
    {"query": {"a": 1}},
)
"""Mistakes of careless clients, as changes to a valid body. The contract requires status 400 for each."""


@dataclass(frozen=True)
class Call:
    """One HTTP request of a question: its bytes around the query's first token ids, and the request to check it by."""

    before: bytes
    after: bytes
    request: ScoreRequest


@dataclass(frozen=True)
class Question:
    """One score request in a server's dialect: one call, or as many as it takes to get all labels.

    Attributes:
        is_bad: whether status 400 is the correct answer.
    """

    calls: tuple[Call, ...]
    n_items: int
    is_bad: bool = False


class Questions:
    """An endless sequence of questions from a few requests. Each query starts with different tokens.

    Args:
        requests: request shapes, used in turn.
        bad_every: every Nth request is malformed; 0: none.

    Raises:
        ValueError: without a request, or for an unknown kind of server.
    """

    def __init__(
        self, requests: Sequence[ScoreRequest], *, address: Address, server: str, model: str, bad_every: int = 0
    ) -> None:
        if not requests:
            raise ValueError("requests=[] is empty; a load needs at least one request to send")
        self.dialect, self._bad_every = dialect_of(server), bad_every
        self.requests = list(requests)
        self._varied = sorted({i for request in requests for i in request.query_ids})

        def prepared(request: ScoreRequest) -> Question:
            bodies = [(call, body_of(call, model)) for call in self.dialect.calls(request)]
            calls = tuple(_call(address, self.dialect.path, body, call) for call, body in bodies)
            return Question(calls, len(request.items_ids))

        def spoiled(change: dict, request: ScoreRequest) -> Question:
            body = json.dumps(body_of(request, model) | change).encode()
            call = Call(address.head(self.dialect.path, len(body)) + body, b"", request)
            return Question((call,), len(request.items_ids), is_bad=True)

        self._good = [prepared(request) for request in requests]
        self._bad = [spoiled(change, requests[i % len(requests)]) for i, change in enumerate(BAD)]

    def __getitem__(self, number: int) -> tuple[Question, list[bytes]]:
        """Return the nth question and the bytes of its calls."""
        if self._bad_every and number % self._bad_every == self._bad_every - 1:
            question = self._bad[number // self._bad_every % len(self._bad)]
            return question, [call.before for call in question.calls]
        question = self._good[number % len(self._good)]
        varied, n = self._varied, len(self._varied)
        first = b"%*d" % (WIDTH, varied[number % n])
        second = b"%*d" % (WIDTH, varied[number // n % n])
        short = len(question.calls[0].request.query_ids) < 2
        ids = first if short else first + b"," + second
        return question, [call.before + ids + call.after for call in question.calls]

    @property
    def calls_per_request(self) -> int:
        """HTTP requests per score request."""
        return max(len(question.calls) for question in self._good)


def _call(address: Address, path: str, body: dict, request: ScoreRequest) -> Call:
    """Split a body at the query's first token ids."""
    n_varied = min(2, len(request.query_ids))
    others = {name: value for name, value in body.items() if name != "query"}
    rest = "".join(f", {i}" for i in request.query_ids[n_varied:])
    opening, closing = b'{"query": [', f"{rest}], {json.dumps(others)[1:]}".encode()
    length = len(opening) + n_varied * WIDTH + (n_varied - 1) + len(closing)
    return Call(address.head(path, length) + opening, closing, request)
