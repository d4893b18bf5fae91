"""Serve a request queue over HTTP: `/v1/score`, `/health`, `/metrics`. No client input can stop the server."""

from __future__ import annotations

import json
import logging
import time
from dataclasses import dataclass

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from scorematrix.models.catalogue import Model
from scorematrix.scoring import Backend
from scorematrix.serving.batch_queue import BatchQueue, QueueClosed, QueueFull
from scorematrix.serving.wire import BadRequest, answer_body, error_body, read_body

LOG = logging.getLogger("scorematrix.serving")
RETRY_AFTER_SECONDS = 1
SCORE_PATH = "/v1/score"
BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)


@dataclass(frozen=True)
class Limits:
    """Limits of a request and of the queue.

    Attributes:
        max_waiting: longest queue; further requests get 503.
        max_batch_items: most items in a batch of requests with one query.
    """

    max_body_bytes: int = 16 * 2**20
    max_items: int = 10_000
    max_waiting: int = 64
    max_batch_items: int = 512

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if value < 1:
                raise ValueError(f"{name}={value} must be at least 1")


class ScoringApp:
    """An ASGI application around one loaded backend.

    Args:
        model: its tokenizer encodes texts, its vocabulary limits token ids.
    """

    def __init__(self, backend: Backend, model: Model, limits: Limits | None = None) -> None:
        self.backend, self.model, self.limits = backend, model, limits or Limits()
        self.queue = BatchQueue(
            backend, max_waiting=self.limits.max_waiting, max_batch_items=self.limits.max_batch_items
        )
        self._registry = registry = CollectorRegistry()
        answers = Counter("scorematrix_answers", "Answers by status code.", ["code"], registry=registry)
        self._answers = {code: answers.labels(str(code)) for code in (200, 400, 413, 500, 503)}
        self._items = Counter("scorematrix_items", "Items that were scored.", registry=registry)
        self._seconds = Histogram(
            "scorematrix_request_seconds", "From a complete body to its answer.", buckets=BUCKETS, registry=registry
        )
        waiting = Gauge("scorematrix_waiting", "Requests in the queue.", registry=registry)
        waiting.set_function(lambda: self.queue.n_waiting)
        calls = Gauge("scorematrix_backend_calls", "Calls to the backend so far.", registry=registry)
        calls.set_function(lambda: self.queue.n_calls)
        self._routes = Starlette(
            routes=[
                Route("/health", self._health, methods=["GET"]),
                Route("/metrics", self._metrics, methods=["GET"]),
            ]
        )

    async def __call__(self, scope, receive, send) -> None:
        # A path that serves a thousand requests per second bypasses the router and its request and response objects.
        if scope["type"] == "http" and scope["path"] == SCORE_PATH and scope["method"] == "POST":
            await self._score(scope, receive, send)
        elif scope["type"] == "http" and scope["path"] == SCORE_PATH:
            await Response("Method Not Allowed", 405, {"Allow": "POST"})(scope, receive, send)
        else:
            await self._routes(scope, receive, send)

    def close(self) -> None:
        """Finish the queued requests and accept no more."""
        self.queue.close()

    async def _score(self, scope, receive, send) -> None:
        try:
            body = await self._body(scope, receive)
        except ConnectionError:
            return  # the client has left
        start = time.perf_counter()
        code, answer = (413, error_body(self._too_large(), 413)) if body is None else await self._answer(body)
        self._seconds.observe(time.perf_counter() - start)
        self._answers[code].inc()
        headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(answer))]
        if code == 503:
            headers.append((b"retry-after", b"%d" % RETRY_AFTER_SECONDS))
        await send({"type": "http.response.start", "status": code, "headers": headers})
        await send({"type": "http.response.body", "body": answer})

    async def _answer(self, body: bytes) -> tuple[int, bytes]:
        try:
            parsed = read_body(
                body,
                tokenizer=self.model.tokenizer,
                vocab_size=self.model.config.vocab_size,
                max_items=self.limits.max_items,
                max_positions=self.model.config.max_positions,
            )
            scores = await self.queue.score(parsed.requests) if parsed.requests else []
            self._items.inc(sum(len(part) for part in scores))
            return 200, answer_body(parsed, scores, self.model.name)
        except BadRequest as error:
            return 400, error_body(str(error), 400)
        except QueueFull:
            waiting = self.limits.max_waiting
            return 503, error_body(f"{waiting} requests are already queued; retry in {RETRY_AFTER_SECONDS} s", 503)
        except QueueClosed:
            return 503, error_body("the server is stopping", 503)
        except Exception:
            LOG.exception("a request could not be scored")
            return 500, error_body("internal error, see the server's log", 500)

    async def _body(self, scope, receive) -> bytes | None:
        """Return the body, or None if it is longer than allowed; its rest is then not read.

        Raises:
            ConnectionError: if the client left before the body was complete.
        """
        limit = self.limits.max_body_bytes
        length = next((value for name, value in scope["headers"] if name == b"content-length"), b"")
        if length.isdigit() and int(length) > limit:
            return None
        parts, size = [], 0
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise ConnectionError
            part = message.get("body", b"")
            size += len(part)
            if size > limit:
                return None
            parts.append(part)
            if not message.get("more_body", False):
                return b"".join(parts)

    def _too_large(self) -> str:
        return f"the body is longer than {self.limits.max_body_bytes} bytes; send fewer items a request"

    async def _health(self, request: Request) -> Response:
        info = self.backend.info
        content = {
            "status": "ok",
            "backend": info.backend,
            "view": info.view,
            "device": info.device,
            "dtype": info.dtype,
            "precision": info.precision,
            "reuse_prefix": info.settings.get("reuse_prefix", 0),
            "model": self.model.name,
            "vocab_size": self.model.config.vocab_size,
            "weights_sha256": self.model.weights.sha256,
        }
        return Response(json.dumps(content), media_type="application/json")

    async def _metrics(self, request: Request) -> Response:
        return Response(generate_latest(self._registry), media_type="text/plain; version=0.0.4")
