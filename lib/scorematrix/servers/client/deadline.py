"""A deadline for a complete request. httpx limits each wait for the next bytes only, so a slow drip never times out."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable

import httpcore
import httpx


class DeadlineTransport(httpx.HTTPTransport):
    """HTTP transport that applies httpx's read timeout to the complete request, not to each wait within it.

    It ignores proxies of the environment: the response must come from the named server.
    """

    def __init__(self) -> None:
        super().__init__()
        self._ends = threading.local()  # a thread has one request in flight, including the read of its body
        self._pool = httpcore.ConnectionPool(
            ssl_context=httpx.create_ssl_context(),
            max_connections=256,
            keepalive_expiry=5.0,
            network_backend=_Backend(self._ends),
        )

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        seconds = request.extensions.get("timeout", {}).get("read")
        self._ends.at = None if seconds is None else time.monotonic() + seconds
        return super().handle_request(request)


class _Backend(httpcore.SyncBackend):
    def __init__(self, ends: threading.local) -> None:
        super().__init__()
        self._ends = ends

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable | None = None,
    ) -> httpcore.NetworkStream:
        return _Stream(super().connect_tcp(host, port, timeout, local_address, socket_options), self._ends)


class _Stream(httpcore.NetworkStream):
    def __init__(self, inner: httpcore.NetworkStream, ends: threading.local) -> None:
        self._inner, self._ends = inner, ends

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        if (ends := getattr(self._ends, "at", None)) is not None:
            if (left := ends - time.monotonic()) <= 0:
                raise httpcore.ReadTimeout("the complete response took longer than the timeout")
            timeout = left if timeout is None else min(timeout, left)
        return self._inner.read(max_bytes, timeout)

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self._inner.write(buffer, timeout)

    def close(self) -> None:
        self._inner.close()

    def start_tls(self, ssl_context, server_hostname=None, timeout=None) -> httpcore.NetworkStream:
        return _Stream(self._inner.start_tls(ssl_context, server_hostname, timeout), self._ends)

    def get_extra_info(self, info: str) -> object:
        return self._inner.get_extra_info(info)
