"""A scoring server of a few lines that dies at its n-th score request: `dying_server.py PORT N [CHILD_PID_FILE]`."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

left = int(sys.argv[2])


class Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.answer({"status": "ok", "model": "fake", "version": "1.2"} if self.path == "/health" else None)

    def do_POST(self) -> None:
        global left
        left -= 1
        if left < 0:
            print("out of luck", flush=True)
            os._exit(9)
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        n_labels = len(body["label_token_ids"])
        self.answer({"scores": [[1 / n_labels] * n_labels for _ in body["items"]], "model": body["model"]})

    def answer(self, content: dict | None) -> None:
        text = json.dumps(content).encode()
        self.send_response(200 if content else 404)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, *_: object) -> None:
        pass


if len(sys.argv) > 3:  # what servers do: a process beside the one that listens
    Path(sys.argv[3]).write_text(str(subprocess.Popen(["sleep", "600"]).pid))
HTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
