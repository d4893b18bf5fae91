"""A scorer in another environment's Python: one JSON line per request; it ends with this process."""

from __future__ import annotations

import atexit
import json
import os
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from scorematrix.scoring.contract import Scores
from scorematrix.scoring.registry import peer_python
from scorematrix.workload.request import ScoreRequest

WORKERS = Path(__file__).parent / "workers"


class PeerProcess:
    """One worker of `workers/`, from its start to its end."""

    def __init__(self, environment: str, worker: str, options: dict[str, Any]) -> None:
        self._log = tempfile.TemporaryFile()  # noqa: SIM115 (open as long as the worker lives)
        self._process = subprocess.Popen(
            [str(peer_python(environment)), str(WORKERS / worker)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            env={key: value for key, value in os.environ.items() if key != "PYTHONPATH"},
            text=True,
        )
        atexit.register(self.close)
        self.info: dict[str, str] = self._ask({"load": options})["info"]

    def score(self, request: ScoreRequest) -> Scores:
        """Float32 [items, labels].

        Raises:
            RuntimeError: if the worker failed or died; quotes its error.
        """
        message = dict(
            query_ids=list(request.query_ids),
            items_ids=[list(ids) for ids in request.items_ids],
            label_ids=list(request.label_ids),
            apply_softmax=request.apply_softmax,
        )
        return np.asarray(self._ask({"score": message})["scores"], np.float32)

    def close(self) -> None:
        """End the worker."""
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait()

    def _ask(self, message: dict[str, Any]) -> dict[str, Any]:
        assert self._process.stdin and self._process.stdout
        try:
            self._process.stdin.write(json.dumps(message) + "\n")
            self._process.stdin.flush()
            line = self._process.stdout.readline()
        except BrokenPipeError:
            line = ""
        if not line:
            self._log.seek(0)
            tail = self._log.read().decode(errors="replace").strip()[-600:]
            raise RuntimeError(f"the worker ended with code {self._process.wait()}: {tail}")
        answer = json.loads(line)
        if "error" in answer:
            raise RuntimeError(answer["error"])
        return answer
