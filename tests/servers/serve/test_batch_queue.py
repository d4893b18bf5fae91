"""The line before a backend: nobody's answer changes, nobody waits for ever, no more wait than may."""

from __future__ import annotations

import asyncio
import threading
from contextlib import suppress

import httpx
import numpy as np
import pytest

from scorematrix import ScoreRequest
from scorematrix.models import load_model
from scorematrix.scoring import BackendInfo, CompileEvent
from scorematrix.servers.serve import BatchQueue, Limits, ScoringApp
from scorematrix.servers.serve.batch_queue import QueueClosed, QueueFull, TooSlow


class GatedBackend:
    """Scores an item by its first token; waits at a gate, and keeps what it was asked."""

    def __init__(self) -> None:
        self.info = BackendInfo("gated", "v", "none", "cpu", "float32", "none")
        self.compile_events: list = []
        self.gate, self.begun, self.asked = threading.Event(), threading.Event(), []

    def prepare(self, requests) -> None:
        pass

    def score(self, request: ScoreRequest) -> np.ndarray:
        self.asked.append(request)
        self.begun.set()
        assert self.gate.wait(10)
        if request.query_ids == (13,):
            raise MemoryError("no room")
        return np.array([[ids[0], request.query_ids[0]] for ids in request.items_ids], dtype=np.float32)


def request(query: int, *items: int, softmax: bool = True) -> ScoreRequest:
    return ScoreRequest([query], [[item] for item in items], [1, 2], softmax)


def run(line: BatchQueue, backend: GatedBackend, asked: list[ScoreRequest]) -> list:
    """All of them at once; the first is in work before the others come."""

    async def ask() -> list:
        first = asyncio.ensure_future(line.score([asked[0]]))
        await asyncio.to_thread(backend.begun.wait, 10)
        rest = [asyncio.ensure_future(line.score([r])) for r in asked[1:]]
        await asyncio.sleep(0.05)
        backend.gate.set()
        return await asyncio.gather(first, *rest, return_exceptions=True)

    try:
        return asyncio.run(ask())
    finally:
        line.close()


def test_requests_of_one_query_go_together_and_get_their_own() -> None:
    backend = GatedBackend()
    line = BatchQueue(backend, Limits(max_batch_items=5))
    asked = [request(5, 1), request(6, 10, 11), request(7, 20), request(6, 12), request(6, 13, 14, 15), request(6, 16)]
    answers = run(line, backend, asked)
    for one, (answer,) in zip(asked, answers, strict=True):
        assert answer.tolist() == [[ids[0], one.query_ids[0]] for ids in one.items_ids]
    # 10, 11 and 12 share a call; three more items would be six, more than a call may hold.
    assert [[ids[0] for ids in r.items_ids] for r in backend.asked] == [[1], [10, 11, 12], [20], [13, 14, 15, 16]]
    assert line.n_calls == 4


@pytest.mark.parametrize("other", [request(6, 2, softmax=False), ScoreRequest([6], [[2]], [2, 1])])
def test_other_questions_do_not_go_together(other: ScoreRequest) -> None:
    backend = GatedBackend()
    run(BatchQueue(backend), backend, [request(5, 1), request(6, 1), other])
    assert len(backend.asked) == 3


def test_no_more_wait_than_may_and_an_error_costs_its_own_request_only() -> None:
    backend = GatedBackend()
    line = BatchQueue(backend, Limits(max_waiting=2))
    first, failed, sound, refused = run(line, backend, [request(5, 1), request(13, 1), request(8, 9), request(9, 1)])
    assert first[0].tolist() == [[1, 5]] and sound[0].tolist() == [[9, 8]]
    assert isinstance(failed, MemoryError) and isinstance(refused, QueueFull)


def test_whoever_left_is_not_computed_for() -> None:
    backend = GatedBackend()
    line = BatchQueue(backend)

    async def ask() -> None:
        first = asyncio.ensure_future(line.score([request(5, 1)]))
        await asyncio.to_thread(backend.begun.wait, 10)
        left = asyncio.ensure_future(line.score([request(6, 1)]))
        await asyncio.sleep(0.05)
        left.cancel()
        await asyncio.sleep(0.05)
        backend.gate.set()
        await first

    asyncio.run(ask())
    line.close()
    assert len(backend.asked) == 1


def test_closing_finishes_what_waits_and_takes_nothing_more() -> None:
    backend = GatedBackend()
    line = BatchQueue(backend)

    async def ask() -> None:
        waiting = [asyncio.ensure_future(line.score([request(q, 1)])) for q in (5, 6)]
        await asyncio.to_thread(backend.begun.wait, 10)
        closing = asyncio.ensure_future(asyncio.to_thread(line.close))
        with pytest.raises(QueueClosed):
            while True:  # until it has begun to close; who leaves is not computed for
                with suppress(TimeoutError):
                    await asyncio.wait_for(line.score([request(7, 1)]), 0.05)
        backend.gate.set()
        assert [answer[0].tolist() for answer in await asyncio.gather(*waiting)] == [[[1, 5]], [[1, 6]]]
        await closing

    asyncio.run(ask())


def test_a_large_request_takes_several_calls_and_others_come_between() -> None:
    backend = GatedBackend()
    line = BatchQueue(backend, Limits(max_batch_items=2, max_call_tokens=6))
    asked = [request(5, 1), request(6, *range(20, 25)), request(7, 30)]
    answers = run(line, backend, asked)
    for one, (answer,) in zip(asked, answers, strict=True):
        assert answer.tolist() == [[ids[0], one.query_ids[0]] for ids in one.items_ids]
    assert [[ids[0] for ids in r.items_ids] for r in backend.asked] == [[1], [20, 21], [30], [22, 23], [24]]


def test_calls_hold_no_more_tokens_than_they_may() -> None:
    backend = GatedBackend()
    backend.gate.set()
    line = BatchQueue(backend, Limits(max_call_tokens=8))
    long = ScoreRequest([5, 6], [[1], [2, 3, 4, 5], [6], [7, 8, 9, 10, 11, 12]], [1, 2])
    (answer,) = asyncio.run(line.score([long]))
    line.close()
    assert [len(r.items_ids) for r in backend.asked] == [3, 1] and answer[:, 0].tolist() == [1, 2, 6, 7]
    assert max(r.n_tokens for r in backend.asked) == 8


def test_no_further_call_is_made_for_whoever_left() -> None:
    backend = GatedBackend()
    line = BatchQueue(backend, Limits(max_batch_items=1))

    async def ask() -> None:
        left = asyncio.ensure_future(line.score([request(6, 1, 2, 3, 4)]))
        await asyncio.to_thread(backend.begun.wait, 10)
        assert 0 < line.call_seconds < 60
        left.cancel()
        await asyncio.sleep(0.05)
        backend.gate.set()
        await line.score([request(7, 9)])

    asyncio.run(ask())
    line.close()
    assert [r.query_ids[0] for r in backend.asked] == [6, 7] and line.call_seconds == 0


def test_abandoned_requests_are_refused_at_once() -> None:
    backend = GatedBackend()
    line = BatchQueue(backend, Limits(max_batch_items=1))

    async def ask() -> list:
        asked = [asyncio.ensure_future(line.score([request(q, 1, 2)])) for q in (5, 6)]
        await asyncio.to_thread(backend.begun.wait, 10)
        line.abandon()
        return await asyncio.gather(*asked, return_exceptions=True)

    answers = asyncio.run(ask())
    assert [type(answer) for answer in answers] == [QueueClosed, QueueClosed]
    assert not line.close(timeout_seconds=0.05), "its call goes on"
    backend.gate.set()
    assert line.close() and len(backend.asked) == 1


class SteadyBackend(GatedBackend):
    """Scores `speed` tokens a second by a clock that only it moves; the first call compiles."""

    speed, now = 2.0, 0.0

    def __init__(self) -> None:
        super().__init__()
        self.gate.set()

    def score(self, request: ScoreRequest) -> np.ndarray:
        if not self.asked:
            self.compile_events.append(CompileEvent("p", 1.0, 1.0, False))
            self.now += 1000
        scores = super().score(request)
        self.now += request.n_tokens / self.speed
        return scores


async def shown(queue: BatchQueue, n_calls: int) -> None:
    """So many calls of two tokens, a second each."""
    for _ in range(n_calls):
        await queue.score([request(5, 1)])


def test_what_would_take_too_long_is_refused_before_work_begins() -> None:
    backend = SteadyBackend()
    queue = BatchQueue(backend, Limits(max_seconds=10, max_batch_items=1), lambda: backend.now)

    async def ask() -> None:
        await shown(queue, 3)
        assert queue.tokens_per_second == {}, "a call that compiled shows no speed, and two are too few"
        await shown(queue, 1)
        assert queue.tokens_per_second == {3: 2.0}
        n_calls = queue.n_calls
        assert len((await queue.score([request(6, *range(10))]))[0]) == 10, "exactly as long as it may take"
        with pytest.raises(TooSlow) as refused:
            await queue.score([request(6, *range(11))])
        assert (refused.value.seconds, refused.value.ahead_seconds) == (11, 0) and queue.n_calls == n_calls + 10
        await queue.score([ScoreRequest([5], [[1] * 80], [1, 2])])  # nothing is known of calls of this size
        assert queue.tokens_per_second == {}, "what is older than a request may take is forgotten"
        await queue.score([request(6, *range(11))])

    asyncio.run(ask())
    queue.close()


def test_what_only_those_ahead_make_late_is_refused_until_they_are_done() -> None:
    backend = SteadyBackend()
    queue = BatchQueue(backend, Limits(max_seconds=10, max_batch_items=1), lambda: backend.now)

    async def ask() -> None:
        await shown(queue, 4)
        backend.gate.clear()
        asked = [request(6, *range(6)), *[request(7, 1)] * 3]
        ahead = [asyncio.ensure_future(queue.score([one])) for one in asked]
        await asyncio.sleep(0)
        with pytest.raises(TooSlow) as refused:
            await queue.score([request(8, *range(5))])
        # They take turns: 5 of the 6 calls ahead, and one for the three that share theirs.
        assert (refused.value.seconds, refused.value.ahead_seconds) == (5, 6)
        backend.gate.set()
        await asyncio.gather(*ahead)
        await queue.score([request(8, *range(5))])

    asyncio.run(ask())
    queue.close()


def test_the_refusal_names_limit_estimate_and_remedy_and_health_states_the_speed() -> None:
    backend = SteadyBackend()
    app = ScoringApp(backend, load_model("random:tiny-qwen3"), Limits(max_seconds=10, max_batch_items=1))
    app.queue = BatchQueue(backend, app.limits, lambda: backend.now)
    small, large = ({"query": [5], "items": [[1]] * n, "label_token_ids": [1, 2]} for n in (1, 30))

    async def ask() -> tuple[httpx.Response, ...]:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test") as client:
            for _ in range(4):
                assert (await client.post("/v1/score", json=small)).status_code == 200
            refused, health = await client.post("/v1/score", json=large), await client.get("/health")
            backend.gate.clear()
            backend.begun.clear()
            ahead = asyncio.ensure_future(client.post("/v1/score", json=small | {"items": [[1]] * 8}))
            await asyncio.to_thread(backend.begun.wait, 10)
            late = await client.post("/v1/score", json=small | {"items": [[1]] * 8})
            backend.gate.set()
            assert (await ahead).status_code == 200
            return refused, health, late

    refused, health, late = asyncio.run(ask())
    app.close()
    assert refused.status_code == 413 and health.json()["tokens_per_second"] == {"3": 2.0}
    assert all(word in refused.json()["message"] for word in ("30 s", "max_seconds=10", "fewer items"))
    assert late.status_code == 503 and late.headers["Retry-After"] == "6"
    assert all(word in late.json()["message"] for word in ("8 s", "max_seconds=10", "retry in 6 s"))
