"""A server that we start in a separate process group: polled until it answers, logged, stopped by its process id."""

from __future__ import annotations

import atexit
import os
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

import httpx

from scorematrix.measure.process import WAITING, sets_waiting
from scorematrix.privacy import printable

GUARD = Path(__file__).with_name("guard.py")
POLL_SECONDS = 0.25
LAST_WORDS = 600


class ServerNotStarted(RuntimeError):
    """The server ended, or did not answer in time; the message quotes the end of its log."""


def free_port() -> int:
    """Return a local port that nothing listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class LaunchedServer:
    """One server process, from its start to its end.

    Args:
        command: the command line, including the port.
        variables: added to this process's environment variables.
        log: file for its output; a restart appends to it.
        start_seconds: time limit until `/health` answers 200.
    """

    def __init__(
        self, command: list[str], port: int, *, variables: Mapping[str, str], log: Path, start_seconds: float
    ) -> None:
        self.url = f"http://127.0.0.1:{port}"
        self.log, self._command, self._start_seconds = log, command, start_seconds
        self._variables = dict(variables)
        self._guard: subprocess.Popen | None = None
        atexit.register(self.stop)

    def start(self) -> float:
        """Start the server and wait until it answers.

        Returns:
            Seconds until it answered.

        Raises:
            ServerNotStarted: if it ended or exceeded `start_seconds`.
        """
        self.log.parent.mkdir(parents=True, exist_ok=True)
        began = time.monotonic()
        self._guard = subprocess.Popen(
            [sys.executable, "-I", str(GUARD), str(self.log), *self._command],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            env=self._environment(),
        )
        while not self._answers():
            if not self.is_alive():
                raise ServerNotStarted(f"the server ended with code {self._guard.returncode}: {self.last_words()}")
            if time.monotonic() - began > self._start_seconds:
                self.stop()
                raise ServerNotStarted(
                    f"the server did not answer within start_seconds={self._start_seconds:g}: {self.last_words()}"
                )
            time.sleep(POLL_SECONDS)
        return time.monotonic() - began

    def _environment(self) -> dict[str, str]:
        """Return this process's variables with the server's own. If those say how threads wait, ours must not."""
        dropped = WAITING["passive"] if sets_waiting(self._variables) else {}
        return {name: value for name, value in os.environ.items() if name not in dropped} | self._variables

    def is_alive(self) -> bool:
        """Return whether the process still runs."""
        return self._guard is not None and self._guard.poll() is None

    def has_died(self, within_seconds: float) -> bool:
        """Return whether the process ends within so many seconds; False as soon as it answers."""
        deadline = time.monotonic() + within_seconds
        while self.is_alive():
            if time.monotonic() > deadline or self._answers():
                return False
            time.sleep(POLL_SECONDS / 5)
        return True

    def stop(self) -> None:
        """Stop the server and all processes that it started; no effect if it has already ended."""
        if self._guard is None:
            return
        assert self._guard.stdin
        self._guard.stdin.close()
        self._guard.wait()
        self._guard = None

    def last_words(self) -> str:
        """Return the end of the log, on one line."""
        try:
            text = self.log.read_bytes()[-4 * LAST_WORDS :].decode(errors="replace")
        except OSError:
            return "it left no log"
        return printable(" ".join(text.split()))[-LAST_WORDS:] or "it printed nothing"

    def _answers(self) -> bool:
        try:
            return httpx.get(f"{self.url}/health", timeout=5.0).status_code == 200
        except httpx.TransportError:
            return False
