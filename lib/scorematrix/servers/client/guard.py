"""Run a server for as long as the process that started it lives. Run as a file: `guard.py LOG COMMAND...`.

A killed process cannot stop its server. The guard therefore waits for the end of its standard input, which the system
closes however the parent dies, and then ends the server's process group. It imports nothing of this package, so it
starts at once.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time

GRACE_SECONDS = 15.0
"""Between SIGTERM and SIGKILL."""


def main() -> None:
    log, command = sys.argv[1], sys.argv[2:]
    with open(log, "ab") as out:
        try:
            server = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.STDOUT, start_new_session=True
            )
        except OSError as error:
            out.write(f"{command[0]}: {error.strerror}\n".encode())
            sys.exit(127)
    print(server.pid, flush=True)
    threading.Thread(target=_end_with_parent, args=(server,), daemon=True).start()
    code = server.wait()
    _signal(server, signal.SIGKILL)  # the processes that it left behind
    sys.exit(code if code >= 0 else 128 - code)


def _end_with_parent(server: subprocess.Popen) -> None:
    while os.read(0, 1024):  # not sys.stdin: Python cannot exit while a thread waits in its buffers
        pass
    _signal(server, signal.SIGTERM)
    deadline = time.monotonic() + GRACE_SECONDS
    while server.poll() is None and time.monotonic() < deadline:
        time.sleep(0.05)
    _signal(server, signal.SIGKILL)


def _signal(server: subprocess.Popen, which: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(server.pid, which)


if __name__ == "__main__":
    main()
