"""Anything at all through a socket: `scorematrix serve` answers no 5xx, hangs nowhere and lives on.

`SCOREMATRIX_FUZZ=20000` asks so many requests, at random; without it, a few hundred that are always the same.
"""

from __future__ import annotations

import json
import os
import re
import socket
import time
from collections.abc import Iterator
from dataclasses import dataclass

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from tests.servers.serve.test_server import GOOD, Server

N_ASKED = int(os.environ.get("SCOREMATRIX_FUZZ", "0"))
N_ORDINARY = 600
CONVERSATIONS_A_REQUEST = 0.8  # one has 1.4 requests on average
"""Some are several requests: a few more than asked for come out."""
PATIENCE_SECONDS = 10.0
UNFRAMED_SECONDS = 0.01
"""A server that waits for the rest of a request is right: so long is waited for an answer nobody can demand."""

Head = tuple[str, str, list[tuple[str, str]]]


@dataclass(frozen=True)
class Sent:
    """What goes over one connection.

    Attributes:
        n_requests: how many requests it is meant to be.
        n_due: answers that must come; None: it is not whole, nobody can say.
        last_good: the last request is a good one: its answer must be 200.
    """

    data: bytes
    n_requests: int = 1
    n_due: int | None = 1
    last_good: bool = False


def framed(body: bytes, path: str = "/v1/score") -> bytes:
    return f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body


whole = json.dumps(GOOD).encode()
scalars = st.one_of(st.integers(-3, 300), st.integers(), st.floats(), st.booleans(), st.none(), st.text(max_size=5))
anything = st.recursive(
    scalars,
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(st.text(max_size=4), inner, max_size=3)),
    max_leaves=10,
)
ids = st.lists(st.integers(0, 255), min_size=1, max_size=4)
sensible = st.one_of(ids, st.lists(ids, min_size=1, max_size=4), st.booleans(), st.text(max_size=8))
fields = st.sampled_from([*GOOD, "item_first", "model", "x"])
near_good = st.dictionaries(fields, st.one_of(anything, sensible), max_size=3).map(lambda changed: GOOD | changed)


@st.composite
def mutated(draw: st.DrawFn) -> bytes:
    """The good body with bytes cut out, put in, doubled or turned."""
    data = bytearray(whole)
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, max(len(data) - 1, 0)))
        kind = draw(st.sampled_from(["cut", "put", "turn", "double"]))
        if kind == "cut":
            del data[at : at + draw(st.integers(1, 6))]
        elif kind == "put":
            data[at:at] = draw(st.binary(min_size=1, max_size=4))
        elif kind == "double":
            data[at:at] = data[at : at + draw(st.integers(1, 40))]
        elif data:
            data[at] ^= 1 << draw(st.integers(0, 7))
    return bytes(data)


bodies = st.one_of(
    near_good.map(lambda body: json.dumps(body).encode()),
    anything.map(lambda body: json.dumps(body).encode()),
    mutated(),
    st.binary(max_size=300),
    st.integers(1, 30_000).map(lambda n: b"[" * n),
)
paths = st.sampled_from(["/v1/score", "/health", "/metrics", "/", "/v1/score/", "/v1/score?x=1", "/%00", "//v1/score"])


@st.composite
def pipelined(draw: st.DrawFn) -> Sent:
    """Several requests sent together, a good one last: each has its answer."""
    several = draw(st.lists(bodies, min_size=1, max_size=4))
    return Sent(b"".join(map(framed, [*several, whole])), len(several) + 1, len(several) + 1, last_good=True)


@st.composite
def wrong_length(draw: st.DrawFn) -> Sent:
    """Lengths that are not the body's, or no lengths, alone or contradicting each other."""
    body = draw(bodies)
    lengths = st.one_of(
        st.integers(0, 2 * len(body) + 10).map(str),
        st.sampled_from(["-1", "", "abc", "1e3", "0x10", "+5", " 7", "1,2", "9" * 30, str(2**63), "\x00"]),
        st.text(st.characters(min_codepoint=32, max_codepoint=255, exclude_characters="\r\n"), max_size=4),
    )
    told = "".join(f"Content-Length: {length}\r\n" for length in draw(st.lists(lengths, min_size=1, max_size=2)))
    return Sent(b"POST /v1/score HTTP/1.1\r\nHost: x\r\n" + told.encode("latin-1") + b"\r\n" + body, n_due=None)


@st.composite
def partial(draw: st.DrawFn) -> Sent:
    """A request that breaks off somewhere."""
    data = framed(draw(bodies), draw(paths))
    return Sent(data[: draw(st.integers(0, len(data) - 1))], n_due=None)


@st.composite
def chunked(draw: st.DrawFn) -> Sent:
    """A body in chunks, their sizes right or wrong."""
    parts = draw(st.lists(st.binary(min_size=1, max_size=40), max_size=4))
    right = draw(st.booleans())
    sizes = [f"{len(part) if right else draw(st.integers(0, 80)):x}".encode() for part in parts]
    if not right and sizes:
        sizes[-1] = draw(st.sampled_from([sizes[-1], b"-1", b"zz", b"f" * 20, b"", b"5;x=y", b" 5"]))
    body = b"".join(size + b"\r\n" + part + b"\r\n" for size, part in zip(sizes, parts, strict=True)) + b"0\r\n\r\n"
    return Sent(b"POST /v1/score HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n" + body,
                n_due=1 if right else None)  # fmt: skip


@st.composite
def odd_head(draw: st.DrawFn) -> Sent:
    """Methods, paths, versions and headers that few send."""
    method = draw(st.sampled_from(["POST", "GET", "PUT", "DELETE", "OPTIONS", "PATCH", "TRACE", "CONNECT", "XYZ", ""]))
    version = draw(st.sampled_from(["HTTP/1.1", "HTTP/1.0", "HTTP/2.0", "HTTP/9", "http/1.1", ""]))
    latin = st.text(st.characters(max_codepoint=255), max_size=30)
    name = st.one_of(latin, st.sampled_from(["Expect", "Upgrade", "Connection", "Transfer-Encoding", "Content-Type"]))
    value = st.one_of(latin, st.sampled_from(["100-continue", "websocket", "h2c", "close", "gzip", "identity"]))
    headers = draw(st.lists(st.tuples(name, value), max_size=4))
    target = draw(st.one_of(paths, latin))
    lines = [f"{method} {target} {version}", *(f"{n}: {v}" for n, v in headers), f"Content-Length: {len(whole)}"]
    return Sent("\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + whole, n_due=None)


conversations = st.one_of(
    st.builds(lambda body: Sent(framed(body)), bodies),
    st.builds(lambda body, path: Sent(framed(body, path)), bodies, paths),
    pipelined(),
    wrong_length(),
    partial(),
    chunked(),
    odd_head(),
    st.binary(max_size=300).map(lambda data: Sent(data, n_due=None)),
)


def answers(data: bytes) -> list[tuple[int, bytes]]:
    """Whole answers, status and body; what is behind the last whole one is not looked at."""
    found = []
    while (end := data.find(b"\r\n\r\n")) >= 0:
        head, data = data[:end], data[end + 4 :]
        status = re.match(rb"HTTP/1\.1 (\d{3}) ", head)
        assert status, head
        told = re.search(rb"(?i)\r\ncontent-length: (\d+)", head)
        length = int(told.group(1)) if told else 0
        if len(data) < length:
            break
        found.append((int(status.group(1)), data[:length]))
        data = data[length:]
    return found


def converse(port: int, sent: Sent) -> list[tuple[int, bytes]]:
    """Send, and read what comes: until all that is due is there, the server hangs up, or the wait is over."""
    ends = time.monotonic() + (UNFRAMED_SECONDS if sent.n_due is None else PATIENCE_SECONDS)
    got = b""
    with socket.create_connection(("127.0.0.1", port), timeout=PATIENCE_SECONDS) as connection:
        try:
            connection.sendall(sent.data)
            while (left := ends - time.monotonic()) > 0:
                connection.settimeout(left)
                if not (part := connection.recv(65536)):
                    break
                got += part
                if sent.n_due is not None and len(answers(got)) >= sent.n_due:
                    break
        except TimeoutError:
            pass
        except ConnectionError:
            assert sent.n_due is None, "the server hung up on a request that was whole"
    return answers(got)


def healthy(connection: socket.socket) -> bool:
    """Whether the server answers beside all this, on a connection that stays."""
    connection.sendall(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n")
    got = b""
    while not (found := answers(got)):
        got += (part := connection.recv(65536))
        assert part, "the server hung up on its own health"
    return found[0][0] == 200


@pytest.fixture(scope="module")
def served() -> Iterator[Server]:
    server = Server("--backend", "noop")
    yield server
    assert server.process.poll() is None, "it has outlived everything that was sent"
    code, errors = server.stop()
    # Nobody reads its log meanwhile: a line for each bad request would fill the pipe, and the server would hang.
    assert code == 0 and not errors, errors[-2000:]


@pytest.mark.slow
def test_no_5xx_no_hang_and_alive(served: Server) -> None:
    counts: dict[int | str, int] = {"conversations": 0, "requests": 0}
    connection = socket.create_connection(("127.0.0.1", served.port), timeout=PATIENCE_SECONDS)

    @settings(
        max_examples=int((N_ASKED or N_ORDINARY) * CONVERSATIONS_A_REQUEST),
        derandomize=not N_ASKED,
        deadline=None,
        database=None,
        phases=[Phase.generate, Phase.shrink],
        suppress_health_check=list(HealthCheck),
    )
    @given(conversations)
    def fuzz(sent: Sent) -> None:
        found = converse(served.port, sent)
        counts["conversations"] += 1
        counts["requests"] += sent.n_requests
        for code, _ in found:
            counts[code] = counts.get(code, 0) + 1
        assert all(code < 500 for code, _ in found), found
        assert sent.n_due is None or len(found) == sent.n_due, f"{len(found)} answers of {sent.n_due}"
        assert not sent.last_good or found[-1][0] == 200, found[-1]
        assert healthy(connection)

    fuzz()
    connection.close()
    print(counts)
    assert counts["requests"] >= (N_ASKED or N_ORDINARY) and {200, 400} <= counts.keys(), counts
