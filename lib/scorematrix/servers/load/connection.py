"""A persistent connection to a server with one request in flight, made of a socket and a parser only.

General HTTP clients cost several times as much CPU per request, which the server on the same machine then lacks. On two
shared cores the client was the bottleneck, not the server. See `outputs/reference/servers`.
"""

from __future__ import annotations

import asyncio
import ssl
from base64 import b64encode
from dataclasses import dataclass, field
from typing import cast
from urllib.parse import unquote, urlsplit

import httptools


@dataclass(frozen=True)
class Address:
    """A server's address, parsed once."""

    host: str
    port: int
    tls: bool
    prefix: str = ""
    authorization: str = field(default="", repr=False)

    @classmethod
    def of(cls, url: str) -> Address:
        """Parse an address that `checked_address` accepted."""
        parts = urlsplit(url)
        tls = parts.scheme == "https"
        known = ""
        if parts.username is not None:
            pair = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
            known = f"Authorization: Basic {b64encode(pair.encode()).decode()}\r\n"
        return cls(parts.hostname or "", parts.port or (443 if tls else 80), tls, parts.path.rstrip("/"), known)

    def head(self, path: str, length: int) -> bytes:
        """Return the head of a POST with `length` bytes of JSON."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return (
            f"POST {self.prefix}{path} HTTP/1.1\r\nHost: {host}:{self.port}\r\nAccept: application/json\r\n"
            f"{self.authorization}"
            f"Content-Type: application/json\r\nContent-Length: {length}\r\n\r\n"
        ).encode()


@dataclass(frozen=True, slots=True)
class Answer:
    """A complete HTTP response, not yet checked."""

    status: int
    retry_after: str | None
    content: bytes


class Broken(ConnectionError):
    """The connection ended, or sent something other than HTTP, before the response was complete."""


class Connection(asyncio.Protocol):
    """A connection with at most one request in flight.

    Attributes:
        surplus: responses without a request. After one the connection is closed, because its next response could
            belong to another request.
    """

    def __init__(self) -> None:
        self.surplus = 0
        self._transport: asyncio.Transport | None = None
        self._parser = httptools.HttpResponseParser(self)
        self._waiting: asyncio.Future[Answer] | None = None
        self._begin()

    @classmethod
    async def open(cls, address: Address, timeout_seconds: float) -> Connection:
        """Connect.

        Raises:
            OSError: if nothing listens there; its subclass TimeoutError after the timeout.
        """
        context = ssl.create_default_context() if address.tls else None
        making = asyncio.get_running_loop().create_connection(cls, address.host, address.port, ssl=context)
        _, connection = await asyncio.wait_for(making, timeout_seconds)
        return connection

    @property
    def usable(self) -> bool:
        """Whether it can send a request."""
        return self._transport is not None and not self._transport.is_closing()

    async def ask(self, payload: bytes, timeout_seconds: float) -> Answer:
        """Send a request and return its complete response. A slow drip does not extend the timeout.

        Raises:
            Broken: if the connection ends first.
            TimeoutError: after the timeout.
        """
        transport = self._transport
        if transport is None or not self.usable:
            raise Broken("the server closed the connection")
        loop = asyncio.get_running_loop()
        waiting = self._waiting = loop.create_future()
        expiry = loop.call_later(timeout_seconds, self._expire, timeout_seconds)
        transport.write(payload)
        try:
            return await waiting
        finally:
            expiry.cancel()
            if self._waiting is not None:  # not settled by us: the caller was cancelled
                self.close()

    def close(self) -> None:
        """Close the connection at once."""
        self._waiting = None
        if self._transport is not None:
            self._transport.abort()

    # Called by the event loop.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # a TCP transport in every event loop

    def data_received(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            self._fail(f"the response is not HTTP: {error}")

    def eof_received(self) -> None:
        if self._waiting is not None and self._headers_done and not self._has_length:
            self.on_message_complete()  # a body without a length ends with the connection

    def connection_lost(self, exc: Exception | None) -> None:
        reason = str(exc) if exc else "the server closed the connection"
        part = " in the middle of an answer" if self._status_seen else " before it answered"
        self._fail(reason + part)

    # Called by the parser.

    def on_message_begin(self) -> None:
        self._begin()

    def on_status(self, status: bytes) -> None:
        self._status_seen = True

    def on_header(self, name: bytes, value: bytes) -> None:
        name = name.lower()
        if name == b"retry-after":
            self._retry_after = value.decode("latin-1")
        elif name in (b"content-length", b"transfer-encoding"):
            self._has_length = True

    def on_headers_complete(self) -> None:
        self._headers_done = self._status_seen = True

    def on_body(self, body: bytes) -> None:
        self._parts.append(body)

    def on_message_complete(self) -> None:
        status = self._parser.get_status_code()
        if status < 200:  # informational: the final response follows
            return
        waiting, self._waiting = self._waiting, None
        if waiting is None:
            self.surplus += 1
            self.close()
            return
        if not self._parser.should_keep_alive() and self._transport is not None:
            self._transport.close()
        if not waiting.done():
            waiting.set_result(Answer(status, self._retry_after, b"".join(self._parts)))
        self._begin()

    def _begin(self) -> None:
        self._parts: list[bytes] = []
        self._retry_after: str | None = None
        self._status_seen = self._headers_done = self._has_length = False

    def _expire(self, timeout_seconds: float) -> None:
        waiting, self._waiting = self._waiting, None
        if waiting is not None and not waiting.done():
            waiting.set_exception(TimeoutError(f"no answer within {timeout_seconds:g} s"))
        self.close()

    def _fail(self, reason: str) -> None:
        waiting, self._waiting = self._waiting, None
        if waiting is not None and not waiting.done():
            waiting.set_exception(Broken(reason))
        self.close()
