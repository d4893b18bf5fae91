"""A server that sends the same response to every request at once. With it the generator measures its limit.

It is started by this file's path and reads the response's length and bytes from standard input. It prints its port and
ends when standard input ends.
"""

from __future__ import annotations

import asyncio
import re
import sys
from typing import cast

LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)


class Idle(asyncio.Protocol):
    """Answer each request when all of its bytes have arrived."""

    def __init__(self, answer: bytes) -> None:
        self._answer, self._buffer = answer, b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # a TCP transport in every event loop

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        while (head := self._buffer.find(b"\r\n\r\n")) >= 0:
            length = LENGTH.search(self._buffer, 0, head)
            end = head + 4 + (int(length.group(1)) if length else 0)
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
