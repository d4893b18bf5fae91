"""Start and stop the server. By default it listens on this machine only; a stop lets short requests finish."""

from __future__ import annotations

import asyncio
import resource
import signal
import socket
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import uvicorn

from scorematrix.servers.serve.app import ScoringApp

GRACE_SECONDS = 5.0
"""After the first signal, running requests may finish for so long; then they get 503, as after a second signal."""
LAST_SECONDS = 2.0
"""For the last answers, and then for the backend's running call."""


def serve(
    app: ScoringApp, *, host: str = "127.0.0.1", port: int = 8000, on_ready: Callable[[str], None] = lambda _: None
) -> bool:
    """Serve until SIGINT or SIGTERM, then let running requests finish for `GRACE_SECONDS`.

    Args:
        port: 0 takes a free one.
        on_ready: called with the address once the server accepts requests.

    Returns:
        Whether the backend has ended its last call. If not, its thread is still at work.

    Raises:
        ValueError: if the address cannot be bound.
    """
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        bound = socket.create_server((host, port), family=family, backlog=2048)
        # Head and body of an answer are two writes. Nagle's algorithm delays the second until the first is
        # acknowledged, 40 ms later. asyncio turns it off only for sockets that it creates.
        bound.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    except (OSError, OverflowError) as error:
        raise ValueError(
            f"host={host!r}, port={port} cannot be bound: {error}; choose another, or port 0 for a free one"
        ) from None
    # Silent connections are closed after some seconds. Until then they must not use up the usual 1,024 files.
    with suppress(ValueError, OSError):
        most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    # No log line per bad request: a client could fill the log, or block the server on a pipe that nobody reads.
    config = uvicorn.Config(
        app,
        log_level="error",
        access_log=False,
        lifespan="off",
        timeout_graceful_shutdown=int(GRACE_SECONDS + LAST_SECONDS),
    )
    shown = f"[{host}]" if ":" in host else host
    server = _Server(config, app, lambda: on_ready(f"http://{shown}:{bound.getsockname()[1]}"))
    for stops in (signal.SIGTERM, signal.SIGINT):  # another one, while it is stopping, changes nothing
        signal.signal(stops, lambda *_: None)
    try:
        with asyncio.Runner(loop_factory=config.get_loop_factory()) as runner:
            runner.run(server.serve(sockets=[bound]))
    finally:
        has_ended = app.close(LAST_SECONDS)
    return has_ended


class _Server(uvicorn.Server):
    """A server that reports when it accepts requests, hangs up on slow clients, and stops in a bounded time."""

    def __init__(self, config: uvicorn.Config, app: ScoringApp, on_ready: Callable[[], None]) -> None:
        super().__init__(config)
        self._app, self._on_ready = app, on_ready

    async def startup(self, sockets=None) -> None:
        await super().startup(sockets)
        self._watch = asyncio.create_task(self._hang_up())
        self._on_ready()

    def handle_exit(self, sig: int, frame: object) -> None:
        delay = 0.0 if self.should_exit else GRACE_SECONDS
        self.should_exit = True
        loop = asyncio.get_running_loop()
        loop.call_soon_threadsafe(loop.call_later, delay, self._abandon)

    def _abandon(self) -> None:
        self._app.queue.abandon()
        for connection in list(self.server_state.connections):
            if _client_due(connection) is not None:
                connection.transport.abort()

    async def _hang_up(self) -> None:
        """Close connections whose client stalls while it sends a request or reads an answer."""
        seconds, seen = self._app.limits.body_seconds, {}
        while True:
            await asyncio.sleep(min(1.0, seconds / 4))
            now = asyncio.get_running_loop().time()
            states = {connection: _client_due(connection) for connection in list(self.server_state.connections)}
            seen = {
                connection: seen[connection] if connection in seen and seen[connection][0] == state else (state, now)
                for connection, state in states.items()
                if state is not None
            }
            for connection, (_, since) in seen.items():
                # A body that is late is answered by 408 first.
                if now - since > seconds + 1:
                    connection.transport.abort()


def _client_due(connection) -> tuple[Any, int] | None:
    """Return the state of a connection that waits for its client, None for any other.

    It changes with progress: of an answer, half of what is left must be read each time.
    """
    cycle = connection.cycle
    if cycle is not None and not cycle.response_complete and not cycle.more_body:
        return None
    if connection.timeout_keep_alive_task and not connection.transport.get_write_buffer_size():
        return None  # idle between requests: uvicorn closes it, and does not reset a request that is on its way
    return cycle, connection.transport.get_write_buffer_size().bit_length()
