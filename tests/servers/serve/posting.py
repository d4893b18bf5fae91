"""A server on a real socket whose POSTs are answered by a function: what fakes of live servers are made of."""

from __future__ import annotations

import json
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

Reply = tuple[int, bytes] | None
"""Status and body; None where the function has answered by itself."""


@contextmanager
def posting(
    answer: Callable[[bytes, BaseHTTPRequestHandler], Reply], about: Mapping[str, object] | None = None
) -> Iterator[str]:
    """The address of a server on a free port; a GET is answered by what it says about itself, nothing by default."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True  # head and body are two writes: each answer would wait for an ACK

        def do_POST(self) -> None:
            found = answer(self.rfile.read(int(self.headers["Content-Length"])), self)
            if found is not None:
                self.reply(*found)

        def do_GET(self) -> None:
            self.reply(200, json.dumps(dict(about or {})).encode())

        def reply(self, code: int, data: bytes) -> None:
            self.send_response(code)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_: object) -> None:
            pass

    class Server(ThreadingHTTPServer):
        daemon_threads = True
        request_queue_size = 64

        def handle_error(self, request: object, client_address: object) -> None:
            if not isinstance(sys.exception(), OSError):  # a client that had enough is none
                super().handle_error(request, client_address)

    server = Server(("127.0.0.1", 0), Handler)
    # It looks this often whether it is to end, and half a second for each of a hundred servers adds up.
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
