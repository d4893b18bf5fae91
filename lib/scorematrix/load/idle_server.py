"""A server that does nothing: the same answer to everybody, at once. What the generator gets from it is its own limit.

A process of its own, started by this file's path, with the answer's length and bytes on its standard input; it prints
its port, and ends when its input does.
"""

from __future__ import annotations

import asyncio
import re
import sys
from typing import cast

LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)


class Idle(asyncio.Protocol):
    """Counts the bytes of a request, and answers when they are there."""

    def __init__(self, answer: bytes) -> None:
        self._answer, self._buffer = answer, b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # of a TCP connection, whichever the event loop

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        while (head := self._buffer.find(b"\r\n\r\n")) >= 0:
            told = LENGTH.search(self._buffer, 0, head)
            end = head + 4 + (int(told.group(1)) if told else 0)
            if len(self._buffer) < end:
                return
            self._buffer = self._buffer[end:]
            self._transport.write(self._answer)


async def serve(answer: bytes) -> None:
    """Answer until standard input ends."""
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Idle(answer), "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await loop.run_in_executor(None, sys.stdin.buffer.read)


def main() -> None:
    """Read the answer's length and bytes, then serve."""
    length = int(sys.stdin.buffer.readline())
    answer = sys.stdin.buffer.read(length)
    try:
        import uvloop
    except ImportError:
        asyncio.run(serve(answer))
    else:
        uvloop.run(serve(answer))


if __name__ == "__main__":
    main()
