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
from dataclasses import dataclass, field

import httpx
import psutil
import pytest

from scorematrix.models import load_model
from scorematrix.servers.serve import Limits, ScoringApp
from tests.servers.serve.process import Server
from tests.servers.serve.test_batch_queue import GatedBackend

MODEL = "smollm2-135m"
GOOD = {"query": [5, 6, 7, 8], "items": [[9], [10, 11]], "label_token_ids": [3, 4]}
LONG = {"query": list(range(100, 4100)), "items": [[9]], "label_token_ids": [3, 4]}
"""Takes seconds in one call, in either view."""
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


@pytest.fixture(scope="module")
def long_seconds(client: httpx.Client) -> float:
    """What one long call takes on this machine now: a scale for stalls."""
    began = time.monotonic()
    assert client.post("/v1/score", json=LONG, timeout=600).status_code == 200
    return time.monotonic() - began


@dataclass
class Watch:
    """How long `/health` took each time, and how many answers came while the backend computed."""

    seconds: list[float] = field(default_factory=list)
    n_in_a_call: int = 0


@contextmanager
def watched(server: Server) -> Iterator[Watch]:
    """Ask for health without pause."""
    watch, stop = Watch(), threading.Event()

    def ask() -> None:
        with httpx.Client(base_url=server.url, timeout=120) as own:
            while True:
                began = time.monotonic()
                health = own.get("/health").json()
                watch.seconds.append(time.monotonic() - began)
                assert health["status"] == "ok"
                watch.n_in_a_call += health["call_seconds"] > 0
                if stop.wait(0.01):
                    return

    thread = threading.Thread(target=ask)
    thread.start()
    try:
        yield watch
    finally:
        stop.set()
        thread.join()
    print(f"longest wait for /health: {max(watch.seconds):.2f} s of {len(watch.seconds)}")


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
def test_too_much_is_refused_before_work_begins(
    served: Server, client: httpx.Client, long_seconds: float, name: str
) -> None:
    content, code = HOSTILE[name]
    body = b'{"query": ' + b"[" * 4_000_000 if content is None else json.dumps(content, separators=(",", ":")).encode()
    process, calls = psutil.Process(served.process.pid), n_calls(client)
    before = process.memory_info().rss
    with watched(served) as watch:
        answer = client.post("/v1/score", content=body)
    assert answer.status_code == code, answer.text[:300]
    assert max(watch.seconds) < long_seconds / 2
    assert n_calls(client) == calls and process.memory_info().rss - before < 2**30


def n_calls(client: httpx.Client) -> float:
    return float(re.search(r"^scorematrix_backend_calls ([\d.]+)", client.get("/metrics").text, re.MULTILINE).group(1))


def test_health_states_the_limits(client: httpx.Client) -> None:
    limits = client.get("/health").json()["limits"]
    assert limits["max_batch_items"] == 8 and limits["body_seconds"] == BODY_SECONDS
    assert 2 < limits["max_call_tokens"] <= 2**14


def test_whoever_left_is_not_computed_for_and_others_come_between(
    served: Server, client: httpx.Client, long_seconds: float
) -> None:
    many = {"query": LONG["query"][:500], "items": [[7, 8, 9]] * 4000, "label_token_ids": [3, 4]}
    calls = n_calls(client)
    with watched(served) as watch:
        with httpx.Client(base_url=served.url, timeout=120) as other, ThreadPoolExecutor(1) as pool:
            long = pool.submit(other.post, "/v1/score", json=many, timeout=8)
            time.sleep(1)
            assert client.post("/v1/score", json=GOOD).status_code == 200 and not long.done(), "they take turns"
            with pytest.raises(httpx.ReadTimeout):
                long.result()
        client.post("/v1/score", json=GOOD)
    assert n_calls(client) - calls < 4000 / 8 / 2, "all of it was computed"
    assert watch.n_in_a_call and max(watch.seconds) < long_seconds / 2


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


def test_bodies_that_arrive_together_are_bounded(served: Server, long_seconds: float) -> None:
    """40 half-sent bodies held 507 MB."""
    head = f"POST /v1/score HTTP/1.1\r\nHost: x\r\nContent-Length: {8 * 2**20}\r\n\r\n".encode()
    process = psutil.Process(served.process.pid)
    before, slow = process.memory_info().rss, []
    with watched(served) as watch:
        for _ in range(40):
            slow.append(connection := socket.create_connection(("127.0.0.1", served.port), timeout=30))
            with suppress(OSError):  # refused in the middle
                connection.sendall(head + b" " * 7 * 2**20)
        held = process.memory_info().rss - before
        for connection in slow:
            connection.close()
    print(f"held {held / 1e6:.0f} MB")
    assert held < 250e6 and max(watch.seconds) < long_seconds / 2


def test_bodies_that_wait_to_be_parsed_are_bounded_too() -> None:
    backend, gate = GatedBackend(), threading.Event()
    app = ScoringApp(backend, load_model("random:tiny-qwen3"), Limits(2**17, max_receiving_bytes=2**17))
    backend.gate.set()
    app._helper.submit(gate.wait, 30)
    body = json.dumps(GOOD | {"label_token_ids": [1, 2]}).encode().ljust(100_000)

    async def ask() -> list[int]:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test") as own:
            first = asyncio.ensure_future(own.post("/v1/score", content=body))
            while not app._receiving_bytes:
                await asyncio.sleep(0)
            second = await own.post("/v1/score", content=body)
            gate.set()
            answers = [second, await first, await own.post("/v1/score", content=body)]
            return [answer.status_code for answer in answers]

    assert asyncio.run(ask()) == [503, 200, 200] and not app._receiving_bytes
    app.close()


def test_who_reads_an_answer_too_slowly_is_disconnected() -> None:
    """Byte by byte, a client could keep an answer of megabytes in memory for days."""
    server = Server("--backend", "noop", "--body-seconds", "1")
    body = json.dumps({"query": [5], "items": [[9]] * 4096, "label_token_ids": list(range(256))}).encode()
    with socket.socket() as slow:
        slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2**14)
        slow.settimeout(60)
        slow.connect(("127.0.0.1", server.port))
        slow.sendall(b"POST /v1/score HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
        got = slow.recv(4096)
        length = int(re.search(rb"(?i)content-length: (\d+)", got).group(1))
        n_read = len(got)
        with suppress(ConnectionResetError):
            while part := slow.recv(4096):
                n_read += len(part)
                time.sleep(0.02)  # 200 kB a second
    assert n_read < length
    assert server.stop() == (0, "")


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
