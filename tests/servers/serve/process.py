"""`scorematrix serve` as a real process, for tests."""

from __future__ import annotations

import re
import signal
import subprocess
import sys

from tests.conftest import QUICK_COMPILES, environment_of_users

MODEL = "random:tiny-qwen3"


class Server:
    """A running `scorematrix serve` and what it printed."""

    def __init__(self, *options: str, model: str = MODEL) -> None:
        command = [sys.executable, "-m", "scorematrix", "serve", "--model", model, "--port", "0", *options]
        environment = environment_of_users(PYTHONUNBUFFERED="1", **QUICK_COMPILES)
        self.process = subprocess.Popen(command, env=environment, text=True, stdout=subprocess.PIPE,
                                        stderr=subprocess.PIPE)  # fmt: skip
        line = self.process.stdout.readline()
        found = re.search(r"http://127\.0\.0\.1:(\d+)", line)
        assert found, line + self.process.stderr.read()
        self.port = int(found.group(1))
        self.url = f"http://127.0.0.1:{self.port}"

    def stop(self) -> tuple[int, str]:
        self.process.send_signal(signal.SIGTERM)
        _, errors = self.process.communicate(timeout=60)
        return self.process.returncode, errors
