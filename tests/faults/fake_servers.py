"""Servers that fail as live ones do: real sockets, right scores of a small model, and one fault each."""

from __future__ import annotations

import json
import socket
import sys
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from http.server import BaseHTTPRequestHandler
from typing import Any, NamedTuple

from scorematrix import load_backend
from scorematrix.models import Model, load_model
from scorematrix.scoring import Backend
from scorematrix.servers.serve import Limits
from scorematrix.servers.serve.wire import BadRequest, answer_body, error_body, read_body
from tests.servers.serve.posting import Reply, posting

MAX_POSITIONS = 512  # of the tiny models


class Sound:
    """Answers as the contract says; safe to ask from many threads."""

    def __init__(self, backend: Backend, model: Model) -> None:
        self.backend, self.model, self._lock = backend, model, threading.Lock()

    def __call__(self, body: bytes) -> tuple[int, bytes]:
        config = self.model.config
        try:
            asked = read_body(body, Limits(max_items=100), tokenizer=None, vocab_size=config.vocab_size,
                              max_positions=config.max_positions)  # fmt: skip
        except BadRequest as error:
            return 400, error_body(str(error), 400)
        with self._lock:
            scores = [self.backend.score(request) for request in asked.requests]
        return 200, answer_body(asked, scores, self.model.name)

    def changed(self, body: bytes, change: Callable[[dict], dict]) -> tuple[int, bytes]:
        """The answer to another body, where this one is sound."""
        code, answer = self(body)
        return self(json.dumps(change(json.loads(body))).encode()) if code == 200 else (code, answer)

    def rows(self, body: bytes, change: Callable[[list], Any], **more: Any) -> tuple[int, bytes]:
        """The right answer with its rows changed."""
        code, answer = self(body)
        if code != 200:
            return code, answer
        content = json.loads(answer)
        return code, json.dumps(content | {"scores": change(content["scores"])} | more).encode()


Answer = Callable[[Sound, bytes, BaseHTTPRequestHandler], Reply]


def fake_server(sound: Sound, answer: Answer, about: Mapping[str, object] | None = None) -> AbstractContextManager[str]:
    """A server on a free port whose POSTs are answered by the function, out of the sound answers; see `posting`."""
    return posting(lambda body, handler: answer(sound, body, handler), about)


def honest(sound: Sound, body: bytes, handler: BaseHTTPRequestHandler) -> Reply:
    return sound(body)


def mixed_up_under_load() -> Answer:
    """Whoever is not alone is scored with another one's query."""
    in_flight: dict[int, list[int]] = {}
    lock = threading.Lock()

    def answer(sound: Sound, body: bytes, handler: BaseHTTPRequestHandler) -> Reply:
        if (code_and_answer := sound(body))[0] != 200:
            return code_and_answer
        me = threading.get_ident()
        with lock:
            in_flight[me] = json.loads(body)["query"]
        time.sleep(0.02)
        with lock:
            others = [query for thread, query in in_flight.items() if thread != me]
            del in_flight[me]
        return sound.changed(body, lambda b: b | {"query": others[0]}) if others else code_and_answer

    return answer


def fails_under_load() -> Answer:
    """Two at once are too many for its memory."""
    lock = threading.Lock()

    def answer(sound: Sound, body: bytes, handler: BaseHTTPRequestHandler) -> Reply:
        if not lock.acquire(blocking=False):
            return 500, b'{"error": {"message": "CUDA out of memory"}}'
        try:
            time.sleep(0.01)
            return sound(body)
        finally:
            lock.release()

    return answer


def cuts(limit: int, from_end: bool, tells: bool) -> Answer:
    """Query and item together are cut to what fits, and scored."""

    def answer(sound: Sound, body: bytes, handler: BaseHTTPRequestHandler) -> Reply:
        try:
            content = json.loads(body)
            whole = [content["query"] + item for item in content["items"]]
            if max(map(len, whole)) <= limit or content.get("item_first"):
                return sound(body)
        except (KeyError, TypeError, ValueError):
            return sound(body)
        cut = [ids[:limit] if from_end else ids[-limit:] for ids in whole]
        parts = [sound(json.dumps(content | {"query": ids[:-1], "items": [ids[-1:]]}).encode()) for ids in cut]
        rows = [json.loads(text)["scores"][0] for _, text in parts]
        usage = {"usage": {"prompt_tokens": sum(map(len, cut))}} if tells else {}
        return 200, json.dumps({"scores": rows, "object": "scoring"} | usage).encode()

    return answer


def single_item_500(sound: Sound, body: bytes, handler: BaseHTTPRequestHandler) -> Reply:
    code, answer = sound(body)
    if code == 200 and len(json.loads(answer)["scores"]) == 1:
        return 500, b'{"message": "list index out of range"}'
    return code, answer


def drips(head: bool) -> Answer:
    """A byte now and then, for ever: no single wait is long."""

    def answer(sound: Sound, body: bytes, handler: BaseHTTPRequestHandler) -> None:
        begin = b"HTTP/1.1 200 OK\r\nX-Slow: " if head else b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n{"
        handler.wfile.write(begin)
        handler.close_connection = True
        for _ in range(1000):
            handler.wfile.write(b" " if not head else b"x")
            time.sleep(0.05)

    return answer


def half_closed(sound: Sound, body: bytes, handler: BaseHTTPRequestHandler) -> None:
    """The half of an answer, and its side of the connection closed; the other side stays open."""
    handler.wfile.write(b'HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n{"scores": [')
    handler.connection.shutdown(socket.SHUT_WR)
    handler.close_connection = True


def half_for_everything(sound: Sound, body: bytes, handler: BaseHTTPRequestHandler) -> Reply:
    try:
        content = json.loads(body)
        rows = [[0.5 for _ in content["label_token_ids"]] for _ in content["items"]]
    except (KeyError, TypeError, ValueError):
        rows = [[0.5, 0.5]]
    return 200, json.dumps({"scores": rows, "object": "scoring", "usage": None}).encode()


def item_first_ignored(sound: Sound, body: bytes, handler: BaseHTTPRequestHandler) -> Reply:
    """With several items only, as a fork of sglang-jax does."""
    several = sound(body)[0] == 200 and len(json.loads(body)["items"]) > 1
    return sound.changed(body, lambda b: b | {"item_first": False}) if several else sound(body)


def around(before: list[int], between: list[int], behind: list[int]) -> Answer:
    """Tokens of its own around query and items."""

    def put_in(body: dict) -> dict:
        items = [item + behind for item in body["items"]]
        return body | {"query": before + body["query"] + between, "items": items}

    return lambda sound, body, handler: sound.changed(body, put_in)


def in_second_row(value: float) -> Answer:
    def change(rows: list) -> list:
        return [*rows[:1], *[[value, *row[1:]] for row in rows[1:2]], *rows[2:]]

    return lambda sound, body, handler: sound.rows(body, change)


def scores_label_twice(sound: Sound, body: bytes, handler: BaseHTTPRequestHandler) -> Reply:
    code, answer = sound(body)
    if b"more than once" in answer:
        return 200, b'{"scores": [[0.5, 0.5], [0.5, 0.5]], "object": "scoring"}'
    return code, answer


def breaks_on_empty_labels(sound: Sound, body: bytes, handler: BaseHTTPRequestHandler) -> Reply:
    code, answer = sound(body)
    return (500, b"Internal Server Error") if b"label_token_ids=[]" in answer else (code, answer)


def poisoned_by_a_bad_id() -> Answer:
    """A bad request is refused, and leaves something behind that shifts every answer after it."""
    poison = []

    def answer(sound: Sound, body: bytes, handler: BaseHTTPRequestHandler) -> Reply:
        code, text = sound(body)
        if b"query_ids: token id" in text:
            poison.append(1)
        if code == 200 and poison:
            return sound.rows(body, lambda rows: [[p + 0.01 for p in row] for row in rows])
        return code, text

    return answer


def engine_dies_of_a_negative_id() -> Answer:
    """The front lives on and answers `/health`; behind it nobody scores any more."""
    dead = []

    def answer(sound: Sound, body: bytes, handler: BaseHTTPRequestHandler) -> Reply:
        code, text = sound(body)
        if b"is negative" in text:
            dead.append(1)
        return (500, b'{"message": "EngineDeadError"}') if dead else (code, text)

    return answer


class Fault(NamedTuple):
    """What the audit must say: gates that must fail, with words of theirs; rows of the table, with their fault."""

    answer: Answer
    gates: dict[str, str]
    rows: dict[str, str] = {}  # noqa: RUF012


FAULTS: dict[str, Fault] = {
    "wrong under concurrency": Fault(mixed_up_under_load(), {"concurrency": "alone again, it is right"}),
    "500 under concurrency": Fault(fails_under_load(), {"concurrency": "oom: status 500: CUDA out of memory"}),
    "truncated from the end": Fault(
        cuts(MAX_POSITIONS - 1, True, False), {"too long": "truncated silently, from the end"}),
    "truncated from the end, by usage": Fault(
        cuts(MAX_POSITIONS - 1, True, True), {"too long": "its usage reports 1022 tokens"}),
    "truncated from the front": Fault(
        cuts(MAX_POSITIONS - 1, False, False), {"too long": "truncated silently, from the front"}),
    "everything cut to 8 tokens": Fault(cuts(8, False, True), {"form": "truncated: the server computed 64 tokens"}),
    "one score an item": Fault(
        lambda s, b, h: s.rows(b, lambda rows: [row[:1] for row in rows]), {"form": "expected 3 probabilities"}),
    "500 on a single item": Fault(
        single_item_500, {"form": "bad_status: status 500: list index out of range", "bad requests": "a single item"},
        {"a single item": "server_error"}),
    "slow drip of the body": Fault(drips(False), {"form": "timeout: no answer within 0.5 s"}),
    "slow drip of the head": Fault(drips(True), {"form": "timeout: no answer within 0.5 s"}),
    "half-closed": Fault(half_closed, {"form": "connection: "}, {"a sound request": "connection"}),
    "0.5 for everything": Fault(
        half_for_everything, {"constant scores": "gets [0.5, 0.5, 0.5] with status 200"},
        {"label ids []": "answered_nonsense", "bad JSON": "answered_nonsense", "label id -1": "answered_nonsense"}),
    "item_first ignored": Fault(
        item_first_ignored, {"item_first": "honoured for one item, silently ignored for several items"}),
    "BOS put in": Fault(around([1], [], []), {"insertions": "inserts token 1 before the query"}),
    "delimiter put in": Fault(around([], [2], []), {"insertions": "inserts token 2 between query and item"}),
    "delimiters around": Fault(around([], [3], [3]), {"insertions": "inserts token 3 before and behind each item"}),
    "0.0 filled in": Fault(in_second_row(0.0), {"form": "item 1: exactly 0.0"}),
    "NaN": Fault(in_second_row(float("nan")), {"form": "nan is not a probability"}),
    "a label twice is scored": Fault(
        scores_label_twice, {"bad requests": "a label twice (answered_nonsense)"},
        {"a label twice": "answered_nonsense"}),
    "500 for a bad request": Fault(
        breaks_on_empty_labels, {"bad requests": "label ids [] (server_error)"}, {"label ids []": "server_error"}),
    "wrong after a bad request": Fault(
        poisoned_by_a_bad_id(), {"bad requests": "wrong_afterwards"},
        {"query id beyond the vocabulary": "wrong_afterwards"}),
    "the engine dies of -1": Fault(
        engine_dies_of_a_negative_id(), {"bad requests": "item id -1 (server_died)"}, {"item id -1": "server_died"}),
}  # fmt: skip


def main() -> None:
    """A process of its own that ends at the first negative id, as some servers do."""
    import os

    def dies(sound: Sound, body: bytes, handler: BaseHTTPRequestHandler) -> Reply:
        code, text = sound(body)
        if b"Token ID -1" in text or b"is negative" in text:
            os._exit(1)
        return code, text

    model = load_model("random:tiny-llama", seed=11)
    backend = load_backend("pytorch", view="portable", model=model, device="cpu", dtype="float32")
    with fake_server(Sound(backend, model), dies) as url:
        print(url, flush=True)
        sys.stdin.read()


if __name__ == "__main__":
    main()
