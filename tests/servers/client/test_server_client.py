"""Clients of live servers against servers that replay what real ones do: each fault has its class."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, suppress
from http.server import BaseHTTPRequestHandler

import numpy as np
import pytest

from scorematrix import ScoreRequest
from scorematrix.scoring import Backend
from scorematrix.servers.client import ScoreClient, ServerFault
from tests.servers.serve.posting import Reply, posting

REQUEST = ScoreRequest([1, 2, 3], [[4], [5, 6]], [7, 8, 9])
ROWS = [[0.2, 0.3, 0.5], [0.6, 0.3, 0.1]]
Answer = Callable[[dict, BaseHTTPRequestHandler], tuple[int, object] | None]


def serving(answer: Answer) -> AbstractContextManager[str]:
    """A server whose POSTs are answered by a function: (status, body), or None where it has answered by itself."""

    def reply(body: bytes, handler: BaseHTTPRequestHandler) -> Reply:
        found = answer(json.loads(body) | {"path": handler.path}, handler)
        if found is None:
            return None
        code, content = found
        return code, content if isinstance(content, bytes) else json.dumps(content).encode()

    return posting(reply)


def scores(rows: object, **more: object) -> Answer:
    return lambda body, handler: (200, {"scores": rows, "object": "scoring"} | more)


def hang(body: dict, handler: BaseHTTPRequestHandler) -> None:
    time.sleep(3)


def hang_up_after(answer: Answer) -> Answer:
    """The same answer, and the connection is not kept: who asks again has to come anew."""

    def answered(body: dict, handler: BaseHTTPRequestHandler) -> None:
        code, content = answer(body, handler)
        data = json.dumps(content).encode()
        handler.send_response(code)
        handler.send_header("Content-Length", str(len(data)))
        handler.send_header("Connection", "close")
        handler.end_headers()
        handler.wfile.write(data)

    return answered


def drip(head: bool) -> Answer:
    """A byte now and then: no single wait is long, the whole has no end."""

    def answered(body: dict, handler: BaseHTTPRequestHandler) -> None:
        handler.wfile.write(b"HTTP/1.1 200 OK\r\n" + (b"X-Slow: " if head else b"Content-Length: 1000\r\n\r\n{"))
        handler.close_connection = True
        with suppress(OSError):  # whoever asked has gone
            for _ in range(60):
                handler.wfile.write(b" ")
                time.sleep(0.05)

    return answered


def drop(body: dict, handler: BaseHTTPRequestHandler) -> None:
    """A connection that is closed in the middle of an answer."""
    handler.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n{")
    handler.close_connection = True


FAULTS = {
    # what the server does, the class it must get, and words that name it
    "one row too few": (scores(ROWS[:1]), "bad_shape", "1 rows"),
    "one score an item": (scores([[0.2], [0.6]]), "bad_shape", "item 0: [0.2]"),
    "flat scores": (scores([0.2, 0.6]), "bad_shape", "item 0: 0.2"),
    "no scores": (lambda body, handler: (200, {"object": "scoring"}), "bad_shape", "scores"),
    "scores null": (scores(None), "bad_shape", "None"),
    "a default for a label": (scores([[0.2, 0.3, 0.5], [0.9, 0.1, 0.0]]), "bad_shape", "0.0"),
    "NaN": (lambda body, handler: (200, b'{"scores": [[NaN, 1, 1], [1, 1, 1]]}'), "bad_shape", "nan"),
    "a word": (scores([["a", 1, 1], [1, 1, 1]]), "bad_shape", "a "),
    "a list": (lambda body, handler: (200, [ROWS]), "bad_shape", "object"),
    "silent truncation": (scores(ROWS, usage={"prompt_tokens": 5}), "truncated", "5 tokens, 6"),
    "no JSON": (lambda body, handler: (200, b"<html>"), "bad_json", "<html>"),
    "500": (lambda body, handler: (500, {"error": {"message": "boom"}}), "bad_status", "500: boom"),
    "503": (lambda body, handler: (503, {"message": "full"}), "bad_status", "503: full"),
    "out of memory": (
        lambda body, handler: (500, b"torch.OutOfMemoryError: CUDA out of memory"), "oom", "CUDA out of memory"),
    "hangs": (hang, "timeout", "0.5 s"),
    "drips its body": (drip(False), "timeout", "0.5 s"),
    "drips its head": (drip(True), "timeout", "0.5 s"),
    "half-closed": (drop, "connection", ""),
}  # fmt: skip


@pytest.mark.parametrize("fault", FAULTS)
def test_each_fault_has_its_class(fault: str) -> None:
    answer, kind, words = FAULTS[fault]
    with serving(answer) as url, pytest.raises(ServerFault) as caught:
        ScoreClient(url, timeout_seconds=0.5).score(REQUEST)
    assert caught.value.kind == kind and words in str(caught.value)


def test_sound_answers_pass() -> None:
    for usage in (None, {}, {"prompt_tokens": 6}, {"prompt_tokens": 9}):  # the query once, or once an item
        with serving(scores(ROWS, usage=usage)) as url:
            client = ScoreClient(url)
            assert isinstance(client, Backend)
            found = client.score(REQUEST)
            assert found.dtype == np.float32 and np.allclose(found, ROWS)


def test_what_is_sent_is_the_contract() -> None:
    sent = []
    with serving(lambda body, handler: (sent.append(body), scores(ROWS)(body, handler))[1]) as url:
        ScoreClient(url, model="m").score(REQUEST)
    assert sent == [{"path": "/v1/score", "model": "m", "query": [1, 2, 3], "items": [[4], [5, 6]],
                     "label_token_ids": [7, 8, 9], "apply_softmax": True, "item_first": False}]  # fmt: skip


def test_vllm_tells_one_label_a_call_and_all_come_together() -> None:
    by_label = dict(zip(REQUEST.label_ids, np.array(ROWS).T.tolist(), strict=True))

    def answer(body: dict, handler: BaseHTTPRequestHandler) -> tuple[int, object]:
        assert body["path"] == "/generative_scoring" and set(body["label_token_ids"]) == set(by_label)
        return 200, {"data": [{"score": p} for p in by_label[body["label_token_ids"][0]]]}

    with serving(answer) as url:
        assert np.allclose(ScoreClient(url, server="vllm").score(REQUEST), ROWS)


@pytest.mark.parametrize("code", [400, 422])
def test_a_refusal_is_bad_input_in_the_servers_words(code: int) -> None:
    with (
        serving(lambda body, handler: (code, {"message": "Token ID 99 is out"})) as url,
        pytest.raises(ValueError, match=f"{code}.*Token ID 99 is out"),
    ):
        ScoreClient(url).score(REQUEST)


def test_a_server_that_died_is_told_from_one_that_was_never_there() -> None:
    with serving(hang_up_after(scores(ROWS))) as url:
        client = ScoreClient(url, timeout_seconds=2)
        client.score(REQUEST)
    with pytest.raises(ServerFault, match="server_died"):
        client.score(REQUEST)
    with pytest.raises(ServerFault, match="connection"):
        ScoreClient(url, timeout_seconds=2).score(REQUEST)


@pytest.mark.parametrize(
    ("url", "server", "words"),
    [
        ("localhost:8000", "sglang", "url='localhost:8000'"),
        ("ftp://host", "sglang", "http://HOST:PORT"),
        ("http://host", "triton", "server='triton'"),
    ],
)
def test_addresses_and_kinds_that_are_none(url: str, server: str, words: str) -> None:
    with pytest.raises(ValueError, match=r"http|known") as caught:
        ScoreClient(url, server=server)
    assert words in str(caught.value)
