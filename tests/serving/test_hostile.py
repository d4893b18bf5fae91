"""Clients that ask for too much, leave, dawdle or say nothing: `serve` refuses, goes on, and answers the others.

One server with the embedded model and small limits; beside every hostile request, its health is asked for.
"""

from __future__ import annotations

import asyncio
import json
import re
import signal
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress

import httpx
import psutil
import pytest

from scorematrix.models import load_model
from scorematrix.serving import Limits, ScoringApp
from tests.serving.process import Server
from tests.serving.test_batch_queue import GatedBackend

MODEL = "smollm2-135m"
GOOD = {"query": [5, 6, 7, 8], "items": [[9], [10, 11]], "label_token_ids": [3, 4]}
LONG = {"query": list(range(100, 4100)), "items": [[9]], "label_token_ids": [3, 4]}
"""Takes seconds in one call, in either view."""
STALL_SECONDS = 3.0
"""Half of what the least of these requests stalled the server for, before it had limits."""
BODY_SECONDS = 1.0


@pytest.fixture(scope="module")
def served() -> Iterator[Server]:
    server = Server("--backend", "pytorch", "--view", "best_native", "--dtype", "float32", "--device", "cpu",
                    "--max-batch-items", "8", "--body-seconds", str(BODY_SECONDS), model=MODEL)  # fmt: skip
    yield server
    assert server.process.poll() is None, "it has outlived everything that the tests sent"
    code, errors = server.stop()
    assert code == 0 and not errors, errors


@pytest.fixture(scope="module")
def client(served: Server) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=served.url, timeout=60) as client:
        assert client.post("/v1/score", json=GOOD).status_code == 200
        yield client


@contextmanager
def watched(server: Server) -> Iterator[None]:
    """Ask for health without pause; no answer may take long."""
    longest, stop = [0.0], threading.Event()

    def ask() -> None:
        with httpx.Client(base_url=server.url, timeout=120) as own:
            while True:
                began = time.monotonic()
                assert own.get("/health").json()["status"] == "ok"
                longest.append(time.monotonic() - began)
                if stop.wait(0.01):
                    return

    thread = threading.Thread(target=ask)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
    print(f"longest wait for /health: {max(longest):.2f} s of {len(longest)}")
    assert max(longest) < STALL_SECONDS


def text(n_bytes: int) -> str:
    return "the quick brown fox, " * (n_bytes // 21)


HOSTILE = {
    # name: body, status
    "scores": ({"query": [5], "items": [[9]] * 10_000, "label_token_ids": list(range(49_152))}, 413),
    "items": ({"query": [5], "items": [[9]] * 1_500_000, "label_token_ids": [3]}, 413),
    "label twice": ({"query": [5], "items": [[9]], "label_token_ids": [*range(49_000), 48_999]}, 400),
    "tokens": ({"query": [5], "items": [[9] * 1000] * 1000, "label_token_ids": [3]}, 413),
    "query first": ({"query": [5] * 4000, "items": [[9]] * 1000, "label_token_ids": [3], "item_first": True}, 413),
    "a long text": ({"query": text(7_900_000), "items": ["yes"], "label_token_ids": [3]}, 400),
    "a text of one token": ({"query": "a" * 7_900_000, "items": ["yes"], "label_token_ids": [3]}, 400),
    "many texts": ({"query": "a", "items": [text(4000)] * 1900, "label_token_ids": [3]}, 413),
    "deep": (None, 400),
    "a body": ({"query": "a" * 8_500_000, "items": ["yes"], "label_token_ids": [3]}, 413),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_too_much_is_refused_before_work_begins(served: Server, client: httpx.Client, name: str) -> None:
    content, code = HOSTILE[name]
    body = b'{"query": ' + b"[" * 4_000_000 if content is None else json.dumps(content, separators=(",", ":")).encode()
    process, calls = psutil.Process(served.process.pid), n_calls(client)
    before = process.memory_info().rss
    with watched(served):
        answer = client.post("/v1/score", content=body)
    assert answer.status_code == code, answer.text[:300]
    assert n_calls(client) == calls and process.memory_info().rss - before < 2**30


def n_calls(client: httpx.Client) -> float:
    return float(re.search(r"^scorematrix_backend_calls ([\d.]+)", client.get("/metrics").text, re.MULTILINE).group(1))


def test_health_states_the_limits(client: httpx.Client) -> None:
    limits = client.get("/health").json()["limits"]
    assert limits["max_batch_items"] == 8 and limits["body_seconds"] == BODY_SECONDS
    assert 2 < limits["max_call_tokens"] <= 2**14


def test_whoever_left_is_not_computed_for_and_others_come_between(served: Server, client: httpx.Client) -> None:
    many = {"query": LONG["query"][:500], "items": [[7, 8, 9]] * 4000, "label_token_ids": [3, 4]}
    calls = n_calls(client)
    with watched(served):
        with httpx.Client(base_url=served.url, timeout=120) as other, ThreadPoolExecutor(1) as pool:
            long = pool.submit(other.post, "/v1/score", json=many, timeout=8)
            time.sleep(1)
            assert client.post("/v1/score", json=GOOD).status_code == 200 and not long.done(), "they take turns"
            with pytest.raises(httpx.ReadTimeout):
                long.result()
        client.post("/v1/score", json=GOOD)
    assert n_calls(client) - calls < 4000 / 8 / 2, "all of it was computed"


@pytest.mark.parametrize(
    "sent",
    [b"", b"POST /v1/sc", b"POST /v1/score HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n{"],
    ids=["silent", "half a head", "half a body"],
)
def test_connections_that_dawdle_are_ended(served: Server, client: httpx.Client, sent: bytes) -> None:
    slow = [socket.create_connection(("127.0.0.1", served.port), timeout=30) for _ in range(50)]
    for connection in slow:
        connection.sendall(sent)
    assert client.post("/v1/score", json=GOOD).status_code == 200
    for connection in slow:
        with connection:
            try:
                answer = connection.recv(1000)
            except ConnectionResetError:
                answer = b""
            assert answer == b"" or b" 408 " in answer.splitlines()[0]


def test_bodies_that_arrive_together_are_bounded(served: Server) -> None:
    """40 half-sent bodies held 507 MB."""
    head = f"POST /v1/score HTTP/1.1\r\nHost: x\r\nContent-Length: {8 * 2**20}\r\n\r\n".encode()
    process = psutil.Process(served.process.pid)
    before, slow = process.memory_info().rss, []
    with watched(served):
        for _ in range(40):
            slow.append(connection := socket.create_connection(("127.0.0.1", served.port), timeout=30))
            with suppress(OSError):  # refused in the middle
                connection.sendall(head + b" " * 7 * 2**20)
        held = process.memory_info().rss - before
        for connection in slow:
            connection.close()
    print(f"held {held / 1e6:.0f} MB")
    assert held < 250e6


def ask_long(url: str, codes: list[int]) -> threading.Thread:
    def ask() -> None:
        with httpx.Client(base_url=url, timeout=120) as own:
            codes.append(own.post("/v1/score", json=LONG).status_code)

    thread = threading.Thread(target=ask)
    thread.start()
    with httpx.Client(base_url=url) as own:
        while own.get("/health").json()["call_seconds"] == 0:
            time.sleep(0.02)
    return thread


@pytest.mark.parametrize("signals", [[signal.SIGTERM], [signal.SIGINT, signal.SIGINT]], ids=["SIGTERM", "Ctrl-C twice"])
def test_a_stop_beside_long_work_ends_soon(signals: list[signal.Signals]) -> None:
    server = Server("--backend", "pytorch", "--view", "portable", "--device", "cpu", model=MODEL)
    codes: list[int] = []
    thread = ask_long(server.url, codes)
    began = time.monotonic()
    for one in signals:
        server.process.send_signal(one)
        time.sleep(0.2)
    output, errors = server.process.communicate(timeout=30)
    print(f"ended after {time.monotonic() - began:.1f} s")
    thread.join()
    assert codes in ([503], [200]) and server.process.returncode == 0
    assert output.strip().endswith("stopped") and not errors


def test_a_call_that_does_not_end_costs_its_request_a_503_and_health_says_so() -> None:
    backend = GatedBackend()
    app = ScoringApp(backend, load_model("random:tiny-qwen3"), Limits(max_seconds=0.1, stalled_seconds=0.2))

    async def ask() -> list[tuple[int, dict]]:
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as own:
            late = await own.post("/v1/score", json=GOOD)
            await asyncio.sleep(0.2)
            stalled = await own.get("/health")
            backend.gate.set()
            while app.queue.call_seconds:
                await asyncio.sleep(0.01)
            well, good = await own.get("/health"), await own.post("/v1/score", json=GOOD)
            return [(answer.status_code, answer.json()) for answer in (late, stalled, well, good)]

    late, stalled, well, good = asyncio.run(ask())
    app.close()
    assert late[0] == 503 and "0.1 s" in late[1]["message"]
    assert stalled[0] == 503 and stalled[1]["status"] == "stalled" and stalled[1]["call_seconds"] > 0.2
    assert (well[0], well[1]["status"], good[0]) == (200, "ok", 200)
