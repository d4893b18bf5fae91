"""Measure the generator's limit: send the same questions to a server that does nothing."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from scorematrix.servers.client import dialect_of
from scorematrix.servers.load.generator import LoadGenerator
from scorematrix.servers.load.request_log import Plan
from scorematrix.servers.load_records import LoadCeiling
from scorematrix.workload import ScoreRequest


def generator_ceiling(
    requests: Sequence[ScoreRequest], *, server: str = "sglang", concurrency: int = 8, seconds: float = 2.0
) -> LoadCeiling:
    """Measure how many requests per second the generator can now send, check and account for on this machine.

    Raises:
        RuntimeError: if any answer of the server that does nothing was not sound.
    """
    request = requests[0]  # one shape, because the server gives one answer to everything
    with idle_server(sound_answer(request, server)) as url:
        point = LoadGenerator(url, [request], server=server).closed(concurrency, Plan(0.3, seconds, 1))
    totals = point.totals
    if not totals.answered or totals.answered != totals.offered:
        raise RuntimeError(f"the generator's self-check failed: {totals.model_dump_json()} {point.faults}")
    return LoadCeiling(requests_per_second=point.requests_per_second, concurrency=concurrency, seconds=seconds)


def sound_answer(request: ScoreRequest, server: str) -> bytes:
    """Return a complete HTTP response with equal probabilities, in a server's dialect."""
    n_items, n_labels = len(request.items_ids), len(request.label_ids)
    if dialect_of(server).n_told == 1:
        body = {"data": [{"index": i, "score": 1 / n_labels} for i in range(n_items)]}
    else:
        body = {"scores": [[1 / n_labels] * n_labels] * n_items, "usage": None, "object": "scoring"}
    data = json.dumps(body).encode()
    return b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(data) + data


@contextmanager
def idle_server(answer: bytes) -> Iterator[str]:
    """Start a server process that gives this answer to every request, and yield its address."""
    command = [sys.executable, str(Path(__file__).with_name("idle_server.py"))]  # by path: it imports nothing of ours
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin is not None and process.stdout is not None
        try:
            process.stdin.write(b"%d\n" % len(answer) + answer)
            process.stdin.flush()
            port = process.stdout.readline()
            if not port:
                raise RuntimeError("the server of the generator's self-check did not start")
            yield f"http://127.0.0.1:{int(port)}"
        finally:
            process.stdin.close()
            process.wait(10)
