"""Start and stop the server. By default it listens on this machine only; running requests finish before it stops."""

from __future__ import annotations

import asyncio
import signal
import socket
from collections.abc import Callable
from contextlib import suppress

import uvicorn

from scorematrix.serving.app import ScoringApp


def serve(
    app: ScoringApp, *, host: str = "127.0.0.1", port: int = 8000, on_ready: Callable[[str], None] = lambda _: None
) -> None:
    """Serve until SIGINT or SIGTERM, then finish the running requests.

    Args:
        port: 0 takes a free one.
        on_ready: called with the address once the server accepts requests.

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
    # No log line per bad request: a client could fill the log, or block the server on a pipe that nobody reads.
    config = uvicorn.Config(app, log_level="error", access_log=False, lifespan="off", timeout_graceful_shutdown=60)
    shown = f"[{host}]" if ":" in host else host
    server = _Server(config, lambda: on_ready(f"http://{shown}:{bound.getsockname()[1]}"))
    # Once stopped, uvicorn raises the signal that stopped it again.
    signal.signal(signal.SIGTERM, lambda *_: None)
    try:
        with suppress(KeyboardInterrupt), asyncio.Runner(loop_factory=config.get_loop_factory()) as runner:
            runner.run(server.serve(sockets=[bound]))
    finally:
        app.close()


class _Server(uvicorn.Server):
    """A server that reports when it accepts requests."""

    def __init__(self, config: uvicorn.Config, on_ready: Callable[[], None]) -> None:
        super().__init__(config)
        self._on_ready = on_ready

    async def startup(self, sockets=None) -> None:
        await super().startup(sockets)
        self._on_ready()
