"""Starting and stopping the server: bound to this machine unless told otherwise, requests in hand finished first."""

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
    """Serve until the process is told to stop (SIGINT, SIGTERM), then finish what is in hand.

    Args:
        port: 0 takes a free one.
        on_ready: told the address once requests are taken.

    Raises:
        ValueError: for an address that cannot be bound.
    """
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        bound = socket.create_server((host, port), family=family, backlog=2048)
        # Head and body of an answer are two writes: Nagle's algorithm holds the second back until the first is
        # acknowledged, 40 ms later. asyncio switches it off for sockets that it makes itself only.
        bound.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    except (OSError, OverflowError) as error:
        raise ValueError(
            f"host={host!r}, port={port} cannot be bound: {error}; choose another, or port 0 for a free one"
        ) from None
    # No line for each bad request: a client could fill the log, and a pipe that nobody reads would hold the server up.
    config = uvicorn.Config(app, log_level="error", access_log=False, lifespan="off", timeout_graceful_shutdown=60)
    shown = f"[{host}]" if ":" in host else host
    server = _Server(config, lambda: on_ready(f"http://{shown}:{bound.getsockname()[1]}"))
    # uvicorn raises the signal that stopped it once more, when it has stopped.
    signal.signal(signal.SIGTERM, lambda *_: None)
    try:
        with suppress(KeyboardInterrupt), asyncio.Runner(loop_factory=config.get_loop_factory()) as runner:
            runner.run(server.serve(sockets=[bound]))
    finally:
        app.close()


class _Server(uvicorn.Server):
    """Says when it takes requests."""

    def __init__(self, config: uvicorn.Config, on_ready: Callable[[], None]) -> None:
        super().__init__(config)
        self._on_ready = on_ready

    async def startup(self, sockets=None) -> None:
        await super().startup(sockets)
        self._on_ready()
