"""Servers of a few lines that misbehave on the wire: a coroutine gets every request and the stream to answer on."""

from __future__ import annotations

import asyncio
import json
import re
import socket
import struct
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress

from scorematrix import ScoreRequest

REQUESTS = [ScoreRequest([1, 2, 3], [[4], [5, 6]], [7, 8, 9]), ScoreRequest([11, 12, 13], [[4], [5, 6]], [7, 8, 9])]
ROWS = [[0.2, 0.3, 0.5], [0.6, 0.3, 0.1]]
Answer = Callable[[dict, asyncio.StreamWriter], Awaitable[None]]


def http(status: int, content: object, *headers: str) -> bytes:
    data = content if isinstance(content, bytes) else json.dumps(content).encode()
    lines = [f"HTTP/1.1 {status} X", f"Content-Length: {len(data)}", *headers]
    return "\r\n".join([*lines, "", ""]).encode() + data


GOOD = http(200, {"scores": ROWS, "usage": {"prompt_tokens": 6}, "object": "scoring"})


def sends(*parts: bytes, pause: float = 0.0) -> Answer:
    """The same bytes to everybody."""

    async def answer(body: dict, writer: asyncio.StreamWriter) -> None:
        for part in parts:
            writer.write(part)
            await writer.drain()
            if pause:
                await asyncio.sleep(pause)

    return answer


def and_then(answer: Answer, close: Callable[[asyncio.StreamWriter], None]) -> Answer:
    async def answered(body: dict, writer: asyncio.StreamWriter) -> None:
        await answer(body, writer)
        close(writer)

    return answered


def hang_up(writer: asyncio.StreamWriter) -> None:
    writer.close()


def half_close(writer: asyncio.StreamWriter) -> None:
    writer.write_eof()


def reset(writer: asyncio.StreamWriter) -> None:
    """A connection that ends with RST, not with FIN."""
    linger = struct.pack("ii", 1, 0)
    writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
    writer.transport.abort()


class Fake:
    """What a test may see of a fake server, and do to it."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop, self.url, self.n_requests = loop, "", 0
        self.server: asyncio.Server | None = None
        self.writers: set[asyncio.StreamWriter] = set()

    def die(self) -> None:
        """From inside its loop: listen no more, and end all connections."""
        self.server.close()
        for writer in self.writers:
            writer.transport.abort()


@contextmanager
def serving(answer: Answer | Callable[[Fake], Answer]) -> Iterator[Fake]:
    """A server in a thread of its own; `answer`, or what it makes of the server, answers every POST."""
    loop = asyncio.new_event_loop()
    fake, ready = Fake(loop), threading.Event()
    made = answer(fake) if not asyncio.iscoroutinefunction(answer) else answer

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        fake.writers.add(writer)
        with suppress(OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            while not writer.is_closing():
                head = await reader.readuntil(b"\r\n\r\n")
                length = int(re.search(rb"content-length: *(\d+)", head, re.IGNORECASE).group(1))
                body = json.loads(await reader.readexactly(length))
                fake.n_requests += 1
                await made(body | {"path": head.split()[1].decode()}, writer)
        fake.writers.discard(writer)
        writer.close()

    async def run() -> None:
        fake.server = await asyncio.start_server(connected, "127.0.0.1", 0)
        fake.url = f"http://127.0.0.1:{fake.server.sockets[0].getsockname()[1]}"
        ready.set()

    def work() -> None:
        asyncio.set_event_loop(loop)
        loop.run_until_complete(run())
        loop.run_forever()

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    assert ready.wait(10)
    try:
        yield fake
    finally:

        async def stop() -> None:
            fake.die()
            rest = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
            for task in rest:
                task.cancel()
            await asyncio.gather(*rest, return_exceptions=True)

        asyncio.run_coroutine_threadsafe(stop(), loop).result(10)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(10)
        loop.close()
