"""Requests at, below and above every limit, and clients that dawdle or leave, at both engines with the embedded model.

Four clients at once; another one asks for `/health` without pause. `SCOREMATRIX_FUZZ=3000` asks at least so many
requests, at random; without it, a few dozen conversations that are always the same. `-s` shows the figures.
"""

from __future__ import annotations

import json
import os
import random
import socket
import struct
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import numpy as np
import psutil
import pytest

from tests.servers.serve.process import Server
from tests.servers.serve.test_fuzz import PATIENCE_SECONDS, answers, framed
from tests.servers.serve.test_hostile import MODEL, Watch, text, watched

N_ASKED = int(os.environ.get("SCOREMATRIX_FUZZ", "0"))
N_CONVERSATIONS = 60
N_CLIENTS = 4
MOST_GROWTH = 1.05
SMALL = {"max-items": 6, "max-scores": 24, "max-tokens": 256, "max-batch-items": 4, "max-waiting": 4, "max-body-mib": 1,
         "max-memory-gib": 0.02, "body-seconds": 1, "max-programs": 8}  # fmt: skip
ALLOWED = {200, 400, 408, 413, 503}
PLAIN = {"query": [5, 6, 7], "items": [[9]], "label_token_ids": [3, 4], "apply_softmax": True}
MIB = 2**20


def shares(total: int, n: int) -> list[int]:
    return [total // n + (i < total % n) for i in range(n)]


# name: (limits, above or below by, random) -> body; the limit is kept up to 0 above
LIMITS: dict[str, Callable[[dict, int, random.Random], dict]] = {
    "items": lambda most, by, rng: {"items": ids(rng, *[1] * (most["max_items"] + by))},
    "scores": lambda most, by, rng: {"label_token_ids": rng.sample(range(900), most["max_scores"] + by)},
    "tokens": lambda most, by, rng: {"items": ids(rng, *shares(most["max_tokens"] - 3 + by, most["max_items"]))},
    "tokens, items first": lambda most, by, rng: {
        "query": ids(rng, 40)[0], "item_first": True,
        "items": ids(rng, *shares(most["max_tokens"] - 40 * most["max_items"] + by, most["max_items"])),
    },
    "call": lambda most, by, rng: {"items": ids(rng, most["max_call_tokens"] - 3 + by)},
    "call, long query": lambda most, by, rng: {"query": ids(rng, most["max_call_tokens"] - 1 + by)[0]},
    "body": lambda most, by, rng: {"items": ids(rng, 1, 2)},
}  # fmt: skip
HOSTILE = {
    "deep": (b'{"query": ' + b"[" * 900_000, 400),
    "no UTF-8": (b'{"query": "\xff"}', 400),
    "many items": (json.dumps(PLAIN | {"items": [[9]] * 150_000}).encode(), 413),
    "many labels": (json.dumps(PLAIN | {"label_token_ids": list(range(49_152))}).encode(), 413),
    "a label twice": (json.dumps(PLAIN | {"label_token_ids": [*range(49_000), 1]}).encode(), 400),
    "many tokens": (json.dumps(PLAIN | {"items": [[9] * 300_000]}).encode(), 413),
    "a long text": (json.dumps(PLAIN | {"query": text(900_000), "items": ["yes"]}).encode(), 400),
    "many texts": (json.dumps(PLAIN | {"query": "a", "items": [text(150_000)] * 6}).encode(), 413),
}
KINDS = {"limit": 35, "hostile": 35, "burst": 3, "half": 8, "trickle": 2, "left": 6, "reset": 4, "unread": 5,
         "new shape": 1, "arriving": 1}  # fmt: skip
"""Kinds of conversations, and how many of a hundred."""
HALF = [b"", b"POST /v1/sc", b"POST /v1/score HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n{"]


def ids(rng: random.Random, *lengths: int) -> list[list[int]]:
    return [[rng.randrange(5, 40_000) for _ in range(length)] for length in lengths]


@dataclass
class Fuzz:
    """A server under conversations of many kinds, and what came of them."""

    server: Server
    http: httpx.Client
    limits: dict
    codes: Counter[int] = field(default_factory=Counter)
    kinds: Counter[str] = field(default_factory=Counter)
    dawdling: list[socket.socket] = field(default_factory=list)
    known: dict[tuple[str, int], list] = field(default_factory=dict)
    seconds: list[float] = field(default_factory=list)

    def ask(self, body: bytes, code: int = 200) -> httpx.Response:
        """The answer once there is room for it in the queue."""
        while True:
            began = time.monotonic()
            answer = self.http.post("/v1/score", content=body)
            self.codes[answer.status_code] += 1
            if answer.status_code != 503:
                assert answer.status_code == code, (answer.text[:300], body[:300])
                self.seconds.append(time.monotonic() - began)
                return answer
            time.sleep(int(answer.headers["Retry-After"]))

    def scores(self, content: dict) -> list:
        return self.ask(json.dumps(content).encode()).json()["scores"]

    def limit(self, name: str, by: int) -> None:
        """A request at a limit, or so much above: an answer's first and last item score as they do alone."""
        content = PLAIN | LIMITS[name](self.limits, by, random.Random(f"{name} {by}"))
        body = json.dumps(content).encode()
        if name == "body":
            body = body.ljust(self.limits["max_body_bytes"] + by)
        answer = self.ask(body, 413 if by > 0 else 200)
        if by > 0:
            return
        found = np.array(answer.json()["scores"])
        assert found.shape == (len(content["items"]), len(content["label_token_ids"]))
        if (name, by) not in self.known:
            self.known[name, by] = [self.scores(content | {"items": [content["items"][i]]})[0] for i in (0, -1)]
        assert np.abs(found[[0, -1]] - self.known[name, by]).max() < 1e-4

    def converse(self, rng: random.Random) -> None:
        """One conversation of a random kind."""
        self.have(rng.choices(list(KINDS), list(KINDS.values()))[0], rng)

    def have(self, kind: str, rng: random.Random) -> None:
        """One conversation of a kind."""
        self.kinds[kind] += 1
        port = self.server.port
        if kind == "limit":
            self.limit(rng.choice(list(LIMITS)), rng.choice([-1, 0, 1]))
        elif kind == "hostile":
            self.ask(*HOSTILE[rng.choice(list(HOSTILE))])
        elif kind == "burst":  # more at once than may wait; those of one query share calls, the others do not
            several = [PLAIN | {"query": ids(rng, 3)[0], "items": ids(rng, 1, 1)} for _ in range(6)]
            with ThreadPoolExecutor(12) as pool:
                found = list(pool.map(self.scores, [*several, *several]))
            assert np.allclose(found[:6], found[6:], atol=1e-4)
        elif kind == "new shape":
            rows = self.scores(PLAIN | {"label_token_ids": list(range(7, 10 + rng.randrange(12)))})
            assert abs(sum(rows[0]) - 1) < 1e-4
        elif kind == "half":
            self.dawdling.append(self.send(rng.choice(HALF)))
        elif kind == "unread":
            self.dawdling.append(self.send(framed(json.dumps(PLAIN).encode()) * 3))
        elif kind == "trickle":
            with socket.create_connection(("127.0.0.1", port), timeout=PATIENCE_SECONDS) as slow, suppress(OSError):
                slow.sendall(HALF[2])
                slow.settimeout(0.1)
                while True:
                    slow.sendall(b" ")
                    with suppress(TimeoutError):
                        self.count(slow.recv(1000))
                        break
        elif kind == "arriving":
            for crowd in [self.send(HALF[2].replace(b"1000", b"%d" % MIB) + b" " * (MIB - 2)) for _ in range(66)]:
                self.end(crowd)
        else:
            content = PLAIN | {"items": ids(rng, *[1] * 6)}
            with socket.create_connection(("127.0.0.1", port), timeout=PATIENCE_SECONDS) as gone:
                gone.sendall(framed(json.dumps(content).encode()))
                self.codes[0] += 1
                if kind == "reset":
                    gone.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.end_dawdling(but=20)

    def send(self, data: bytes) -> socket.socket:
        connection = socket.create_connection(("127.0.0.1", self.server.port), timeout=6 * PATIENCE_SECONDS)
        with suppress(OSError):  # refused in the middle
            connection.sendall(data)
        return connection

    def end_dawdling(self, but: int = 0) -> None:
        while len(self.dawdling) > but:
            with suppress(IndexError):  # another client ends it
                self.end(self.dawdling.pop(0))

    def end(self, connection: socket.socket) -> None:
        """The server ends it, with or without an answer."""
        got = b""
        with connection, suppress(ConnectionResetError):
            while part := connection.recv(65536):
                got += part
        self.count(got)

    def count(self, data: bytes) -> None:
        found = [code for code, _ in answers(data)]
        self.codes.update(found or [0])
        assert set(found) <= ALLOWED, data[:300]

    def warm_up(self) -> None:
        """All shapes, the largest too, more programs than are kept, all kinds, and all clients at once."""
        for name in LIMITS:
            for by in (-1, 0):
                self.limit(name, by)
        self.make_programs()
        for body, code in HOSTILE.values():
            self.ask(body, code)
        for kind in KINDS:
            self.have(kind, random.Random(kind))
        self.run(N_CLIENTS * 5, seed=0)

    def make_programs(self) -> None:
        """As many shapes as the server keeps programs, the same each time: it keeps these, and no others."""
        for n_labels in range(3, 3 + self.limits["max_programs"]):
            self.scores(PLAIN | {"label_token_ids": list(range(7, 7 + n_labels))})

    def memory_bytes(self) -> int:
        """Resident memory of the server, each time with the same programs."""
        self.make_programs()
        return psutil.Process(self.server.process.pid).memory_info().rss

    def run(self, n: int, seed: int | None) -> None:
        """So many conversations of all clients."""
        rngs = [random.Random(None if seed is None else f"{seed} {i}") for i in range(n)]
        with ThreadPoolExecutor(N_CLIENTS) as pool:
            list(pool.map(self.converse, rngs))
        self.end_dawdling()


@pytest.fixture(params=["jax", "pytorch"])
def fuzz(request: pytest.FixtureRequest) -> Iterator[Fuzz]:
    server = Server("--backend", request.param, "--view", "best_native", "--dtype", "float32", "--device", "cpu",
                    *(f"--{name}={value}" for name, value in SMALL.items()), model=MODEL)  # fmt: skip
    with httpx.Client(base_url=server.url, timeout=120, limits=httpx.Limits(max_keepalive_connections=0)) as http:
        yield Fuzz(server, http, http.get("/health").json()["limits"])
    assert server.process.poll() is None, "it has outlived everything that was sent"
    code, errors = server.stop()
    assert code == 0 and not errors, errors[-2000:]


@pytest.mark.chaos
@pytest.mark.slow
def test_every_limit_holds_and_nothing_grows(fuzz: Fuzz) -> None:
    fuzz.warm_up()
    before, warm = fuzz.memory_bytes(), sum(fuzz.codes.values())
    with watched(fuzz.server) as watch:
        seed = 1
        while True:
            fuzz.run(N_CONVERSATIONS, None if N_ASKED else seed)
            n_asked = sum(fuzz.codes.values()) - warm
            if n_asked >= N_ASKED:
                break
            print(n_asked, f"requests, {fuzz.memory_bytes() / MIB:.0f} MiB", flush=True)
    after = fuzz.memory_bytes()
    print(figures(fuzz, watch, n_asked, before, after))
    assert after <= MOST_GROWTH * before
    assert {200, 413, 503} <= fuzz.codes.keys() <= ALLOWED | {0}
    assert watch.n_in_a_call > 0 and max(watch.seconds) < max(fuzz.seconds) / 2
    assert fuzz.http.get("/health").json()["call_seconds"] == 0
    fuzz.limit("items", 0)


def figures(fuzz: Fuzz, watch: Watch, n_asked: int, before: int, after: int) -> str:
    status = Path(f"/proc/{fuzz.server.process.pid}/status").read_text()
    peak = int(status.split("VmHWM:")[1].split()[0]) / 1024
    return (
        f"{n_asked} requests: {dict(sorted(fuzz.codes.items()))}, 0: no answer\n"
        f"conversations: {dict(fuzz.kinds)}\n"
        f"RSS: {before / MIB:.0f} MiB after warm-up, {after / MIB:.0f} at the end ({after / before - 1:+.1%}), "
        f"{peak:.0f} at most\n"
        f"/health: {len(watch.seconds)} answers, {watch.n_in_a_call} of them in a call; "
        f"longest {max(watch.seconds):.3f} s, "
        f"p99.9 {np.percentile(watch.seconds, 99.9):.3f} s; longest answer to a request {max(fuzz.seconds):.2f} s"
    )
