"""Serve a request queue over HTTP: `/v1/score`, `/health`, `/metrics`. Excessive requests are refused before work."""

from __future__ import annotations

import asyncio
import functools
import json
import logging
import math
import time
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from typing import Any, TypeVar

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

import scorematrix
from scorematrix.models.catalogue import Model
from scorematrix.scoring import Backend
from scorematrix.servers.serve.batch_queue import BatchQueue, QueueClosed, QueueFull, TooSlow
from scorematrix.servers.serve.limits import Limits
from scorematrix.servers.serve.wire import Asked, BadRequest, answer_body, error_body, read_body

LOG = logging.getLogger("scorematrix.servers.serve")
RETRY_AFTER_SECONDS = 1
SCORE_PATH = "/v1/score"
BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
CODES = (200, 400, 408, 413, 500, 503)
SMALL_BYTES = 2**15
"""Bodies up to this size are parsed on the event loop, which takes some 10 ms at most; larger ones on a thread."""
SMALL_SCORES = 2**13
"""Answers up to this size are encoded on the event loop."""
T = TypeVar("T")


class _Refused(Exception):
    """An answer other than 200.

    Attributes:
        closes: whether the connection ends with it, because the rest of the body is not read.
        retry_seconds: when to retry after a 503.
    """

    def __init__(self, code: int, message: str, closes: bool = False, retry_seconds: int = RETRY_AFTER_SECONDS) -> None:
        super().__init__(message)
        self.code, self.closes, self.retry_seconds = code, closes, retry_seconds


class ScoringApp:
    """An ASGI application around one loaded backend.

    Args:
        model: its tokenizer encodes texts, its vocabulary limits token ids.
    """

    def __init__(self, backend: Backend, model: Model, limits: Limits | None = None) -> None:
        self.backend, self.model, self.limits = backend, model, limits or Limits()
        self.queue = BatchQueue(backend, self.limits)
        self._served = self._describe()  # now: hashing the weights of a large model takes many seconds
        self._receiving_bytes = 0
        self._helper = ThreadPoolExecutor(1, "parsing")
        self._registry = registry = CollectorRegistry()
        answers = Counter("scorematrix_answers", "Answers by status code.", ["code"], registry=registry)
        self._answers = {code: answers.labels(str(code)) for code in CODES}
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

    def close(self, timeout_seconds: float = 60.0) -> bool:
        """Finish the queued requests and accept no more; return whether the backend has finished."""
        self._helper.shutdown(wait=False, cancel_futures=True)
        return self.queue.close(timeout_seconds)

    async def _score(self, scope, receive, send) -> None:
        start, closes, retry_seconds = time.perf_counter(), False, 0
        try:
            held = [await self._body(scope, receive)]
            start = time.perf_counter()
            code, answer = 200, await self._answer(held, receive)
        except ConnectionError:
            return  # the client has left
        except _Refused as error:
            code, answer = error.code, error_body(str(error), error.code)
            closes, retry_seconds = error.closes, error.retry_seconds
        self._seconds.observe(time.perf_counter() - start)
        self._answers[code].inc()
        headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(answer))]
        if code == 503:
            headers.append((b"retry-after", b"%d" % retry_seconds))
        if closes:
            headers.append((b"connection", b"close"))
        await send({"type": "http.response.start", "status": code, "headers": headers})
        await send({"type": "http.response.body", "body": answer})

    async def _answer(self, held: list[bytes], receive) -> bytes:
        """Return the answer to a complete body.

        Args:
            held: the body. It is taken out, so that its memory is free while the request waits.

        Raises:
            ConnectionError: if the client left.
            _Refused: for every answer but 200.
        """
        limits = self.limits
        limit = asyncio.timeout(limits.max_seconds)
        try:
            async with limit:
                parsed = await self._parsed(held)
                scores = await _while_connected(self.queue.score(parsed.requests), receive) if parsed.requests else []
                self._items.inc(sum(len(part) for part in scores))
                is_large = sum(part.size for part in scores) > SMALL_SCORES
                return await self._apart(is_large, lambda: answer_body(parsed, scores, self.model.name))
        except BadRequest as error:
            raise _Refused(error.code, str(error)) from None
        except QueueFull:
            full = f"{limits.max_waiting} requests are already queued; retry in {RETRY_AFTER_SECONDS} s"
            raise _Refused(503, full) from None
        except TooSlow as error:
            raise self._too_slow(error) from None
        except QueueClosed:
            raise _Refused(503, "the server is stopping") from None
        except ConnectionError:
            raise
        except Exception:
            if limit.expired():
                late = f"the request was not answered within {limits.max_seconds:g} s; send fewer items, or retry later"
                raise _Refused(503, late) from None
            LOG.exception("a request could not be scored")
            raise _Refused(500, "internal error, see the server's log") from None

    async def _parsed(self, held: list[bytes]) -> Asked:
        config, size = self.model.config, len(held[0])
        read = functools.partial(
            read_body,
            held.pop(),
            self.limits,
            tokenizer=self.model.tokenizer,
            vocab_size=config.vocab_size,
            max_positions=config.max_positions,
        )
        try:
            return await self._apart(size > SMALL_BYTES, read)
        finally:
            self._receiving_bytes -= size

    def _too_slow(self, error: TooSlow) -> _Refused:
        most, alone = self.limits.max_seconds, f"the request would take about {error.seconds:.3g} s"
        if not error.ahead_seconds:
            return _Refused(413, f"{alone}, max_seconds={most:g} are allowed; send fewer items or tokens a request")
        retry_seconds = math.ceil(min(error.seconds + error.ahead_seconds - most, most))
        ahead = f"and those ahead of it {error.ahead_seconds:.3g} s"
        late = f"{alone} {ahead}, max_seconds={most:g} are allowed; retry in {retry_seconds} s"
        return _Refused(503, late, retry_seconds=retry_seconds)

    async def _apart(self, is_large: bool, work: Callable[[], T]) -> T:
        """Do small work here and large work on the helper thread, one after the other: health checks go on."""
        return await asyncio.get_running_loop().run_in_executor(self._helper, work) if is_large else work()

    async def _body(self, scope, receive) -> bytes:
        """Return the body. Its bytes count as arriving until it is parsed.

        Raises:
            ConnectionError: if the client left before the body was complete.
            _Refused: if the body is longer than allowed, takes too long, or too many others are arriving.
        """
        limits = self.limits
        length = next((value for name, value in scope["headers"] if name == b"content-length"), b"")
        if length.isdigit() and int(length) > limits.max_body_bytes:
            raise _Refused(413, self._too_large())
        parts, size = [], 0
        try:
            async with asyncio.timeout(limits.body_seconds):
                while True:
                    message = await receive()
                    if message["type"] == "http.disconnect":
                        raise ConnectionError
                    part = message.get("body", b"")
                    size += len(part)
                    self._receiving_bytes += len(part)
                    if size > limits.max_body_bytes:
                        raise _Refused(413, self._too_large())
                    if self._receiving_bytes > limits.max_receiving_bytes:
                        busy = f"{limits.max_receiving_bytes} bytes of bodies are arriving or wait to be parsed"
                        raise _Refused(503, f"{busy}; retry in {RETRY_AFTER_SECONDS} s", closes=True)
                    parts.append(part)
                    if not message.get("more_body", False):
                        size = 0
                        return b"".join(parts)
        except TimeoutError:
            late = f"the body did not arrive within {limits.body_seconds:g} s; send it faster, or fewer items a request"
            raise _Refused(408, late, closes=True) from None
        finally:
            self._receiving_bytes -= size

    def _too_large(self) -> str:
        return f"the body is longer than {self.limits.max_body_bytes} bytes; send fewer items a request"

    async def _health(self, request: Request) -> Response:
        """Say what is served and its limits; 503 while a call of the backend takes longer than it should."""
        seconds = self.queue.call_seconds
        is_stalled = seconds > self.limits.stalled_seconds
        content = {
            "status": "stalled" if is_stalled else "ok",
            "call_seconds": round(seconds, 3),
            "tokens_per_second": {n: round(speed, 1) for n, speed in self.queue.tokens_per_second.items()},
        }
        content |= self._served
        return Response(json.dumps(content), 503 if is_stalled else 200, media_type="application/json")

    def _describe(self) -> dict[str, Any]:
        info = self.backend.info
        return {
            "version": scorematrix.__version__,
            "backend": info.backend,
            "view": info.view,
            "device": info.device,
            "dtype": info.dtype,
            "precision": info.precision,
            "reuse_prefix": info.settings.get("reuse_prefix", 0),
            "model": self.model.name,
            "vocab_size": self.model.config.vocab_size,
            "max_positions": self.model.config.max_positions,
            "weights_sha256": self.model.weights.sha256,
            "limits": asdict(self.limits),
        }

    async def _metrics(self, request: Request) -> Response:
        return Response(generate_latest(self._registry), media_type="text/plain; version=0.0.4")


async def _while_connected(answer: Coroutine[Any, Any, T], receive) -> T:
    """Return an answer unless the client leaves first, in which case it is cancelled.

    Raises:
        ConnectionError: if the client left.
    """
    answered, left = asyncio.ensure_future(answer), asyncio.ensure_future(_left(receive))
    try:
        await asyncio.wait({answered, left}, return_when=asyncio.FIRST_COMPLETED)
        if answered.done():
            return answered.result()
        raise ConnectionError
    finally:
        answered.cancel()
        left.cancel()


async def _left(receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
