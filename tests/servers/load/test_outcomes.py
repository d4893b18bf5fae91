"""Every request ends in one place, by what the server did on the wire; nothing is lost, nothing is believed unread."""

from __future__ import annotations

import asyncio
import random
from collections import Counter

import pytest

from scorematrix.servers.load import LoadGenerator, LostRequest, Plan
from scorematrix.servers.load.request_log import RequestLog
from scorematrix.servers.load_records import LoadPoint, LoadTally, LoadWindow
from tests.servers.load.fake_server import (
    GOOD,
    REQUESTS,
    ROWS,
    Answer,
    Fake,
    and_then,
    half_close,
    hang_up,
    http,
    reset,
    sends,
    serving,
)

SHORT = Plan(0.0, 0.4, 2)
SHORTER = Plan(0.0, 0.15, 2)
"""Long enough where every request ends alike."""
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
BODY = GOOD.split(b"\r\n\r\n")[1]
FULL = http(503, {"message": "full"}, "Retry-After: 0.05")

OUTCOMES = {
    # what the server does, where its requests must end, and words that name it
    "answers": (sends(GOOD), "answered", ""),
    "in two parts": (sends(GOOD[:30], GOOD[30:], pause=0.01), "answered", ""),
    "in chunks": (sends(CHUNKED + b"%x\r\n%s\r\n0\r\n\r\n" % (len(BODY), BODY)), "answered", ""),
    "closes after each": (and_then(sends(http(200, BODY, "Connection: close")), hang_up), "answered", ""),
    "no length, ends by closing": (and_then(sends(b"HTTP/1.1 200 OK\r\n\r\n" + BODY), hang_up), "answered", ""),
    "says to go on first": (sends(b"HTTP/1.1 100 Continue\r\n\r\n" + GOOD), "answered", ""),
    "full": (sends(FULL), "refused", ""),
    "full, not saying when to return": (sends(http(503, {"message": "full"})), "bad_status", "503: full"),
    "500": (sends(http(500, {"error": {"message": "boom"}})), "bad_status", "500: boom"),
    "refuses good ones": (sends(http(400, {"message": "no"})), "bad_status", "400): no"),
    "out of memory": (sends(http(500, b"CUDA out of memory")), "oom", "CUDA out of memory"),
    "no JSON": (sends(http(200, b"<html>")), "bad_json", "<html>"),
    "one row too few": (sends(http(200, {"scores": ROWS[:1]})), "bad_shape", "1 rows"),
    "cut input": (sends(http(200, {"scores": ROWS, "usage": {"prompt_tokens": 5}})), "truncated", "6"),
    "hangs": (sends(pause=5), "timeout", "0.1 s"),
    "drips": (sends(*(GOOD[i : i + 1] for i in range(len(GOOD))), pause=0.02), "timeout", "0.1 s"),
    "closes without an answer": (and_then(sends(), hang_up), "connection", "before"),
    "half-closed": (and_then(sends(), half_close), "connection", "before"),
    "closes within": (and_then(sends(GOOD[:60]), hang_up), "connection", "middle"),
    "reset within": (and_then(sends(GOOD[:60], pause=0.01), reset), "connection", "middle"),
    "no HTTP": (sends(b"SMTP ready\r\n"), "connection", "HTTP"),
}  # fmt: skip


def outcome_of(tally: LoadTally) -> set[str]:
    return {name for name in ("answered", "refused", "rejected") if getattr(tally, name)} | tally.failed.keys()


@pytest.mark.parametrize("kind", ["closed", "open"])
@pytest.mark.parametrize("name", OUTCOMES)
def test_each_request_ends_where_it_belongs(name: str, kind: str) -> None:
    answer, expected, words = OUTCOMES[name]
    with serving(answer) as fake:
        generator = LoadGenerator(fake.url, REQUESTS, timeout_seconds=0.1 if expected == "timeout" else 10)
        point = generator.closed(2, SHORTER) if kind == "closed" else generator.open(40, SHORTER)
    assert outcome_of(point.totals) == {expected}
    assert point.totals.offered == fake.n_requests, "what the server saw is what the book holds"
    assert all(words in said for said in point.faults.get(expected, []))
    assert bool(point.faults) == (expected not in ("answered", "refused"))
    assert point.surplus == 0


def test_an_answer_too_many_is_counted_and_gives_no_second_score() -> None:
    with serving(sends(GOOD + GOOD)) as fake:
        point = LoadGenerator(fake.url, REQUESTS).closed(1, SHORT)
    assert point.surplus == fake.n_requests == point.totals.answered > 1


def test_nobody_there() -> None:
    with serving(sends(GOOD)) as fake:
        url = fake.url
    point = LoadGenerator(url, REQUESTS, timeout_seconds=1).closed(1, SHORT)
    assert outcome_of(point.totals) == {"connection"}
    assert point.totals.n_failed < 20, "who finds nobody does not knock a thousand times a second"


def test_a_server_that_died_is_told_from_one_that_was_never_there() -> None:
    def dies(fake: Fake) -> Answer:
        async def answer(body: dict, writer: asyncio.StreamWriter) -> None:
            if fake.n_requests > 20:
                fake.die()
            else:
                await sends(GOOD)(body, writer)

        return answer

    with serving(dies) as fake:
        point = LoadGenerator(fake.url, REQUESTS, timeout_seconds=1).closed(2, SHORT)
    assert point.totals.answered == 20 and outcome_of(point.totals) == {"answered", "server_died"}
    assert "server_died" in point.faults


def test_a_mixed_server_and_the_book_agree_on_every_class() -> None:
    """Good, full, broken, garbled and cut short, at random: both sides count alike."""
    rng, sent = random.Random(5), Counter()
    kinds = {
        "answered": sends(GOOD),
        "refused": sends(http(503, {}, "Retry-After: 0")),
        "bad_status": sends(http(500, {})),
        "bad_json": sends(http(200, b"{")),
        "bad_shape": sends(http(200, {"scores": []})),
        "connection": and_then(sends(GOOD[:40]), hang_up),
    }

    async def answer(body: dict, writer: asyncio.StreamWriter) -> None:
        kind = rng.choice(list(kinds))
        sent[kind] += 1
        await kinds[kind](body, writer)

    with serving(answer) as fake:
        generator = LoadGenerator(fake.url, REQUESTS)
        points = [generator.closed(8, SHORT), generator.open(200, SHORT)]
    found = Counter()
    for point in points:
        totals = point.totals
        found.update({"answered": totals.answered, "refused": totals.refused} | totals.failed)
    assert found == sent and sum(found.values()) == fake.n_requests
    assert set(found) == set(kinds)


def test_bad_requests_are_due_a_refusal() -> None:
    """Every fifth is bad: the tenth is answered all the same, and the first, a good one, is refused."""

    def judges(fake: Fake) -> Answer:
        async def answer(body: dict, writer: asyncio.StreamWriter) -> None:
            bad = fake.n_requests % 5 == 0
            accepted = fake.n_requests == 10 if bad else fake.n_requests != 1
            await sends(GOOD if accepted else http(400, {"message": "bad"}))(body, writer)

        return answer

    with serving(judges) as fake:
        point = LoadGenerator(fake.url, REQUESTS, bad_every=5).closed(1, SHORT)
    totals = point.totals
    assert totals.failed == {"bad_status": 2} and totals.rejected == totals.offered // 5 - 1 > 1
    refused, accepted = point.faults["bad_status"]
    assert "400): bad" in refused and "200" in accepted


def test_what_may_not_be_in_flight_is_counted_as_not_sent() -> None:
    with serving(sends(pause=5)) as fake:
        point = LoadGenerator(fake.url, REQUESTS, timeout_seconds=0.6).open(100, SHORT, max_in_flight=3)
    totals = point.totals
    assert (totals.failed, totals.not_sent) == ({"timeout": 3}, totals.offered - 3) and totals.offered > 20


def test_no_two_questions_are_alike_and_all_are_sound() -> None:
    bodies = []

    async def answer(body: dict, writer: asyncio.StreamWriter) -> None:
        bodies.append(body)
        await sends(GOOD)(body, writer)

    with serving(answer) as fake:
        generator = LoadGenerator(fake.url, REQUESTS, model="m")
        generator.closed(1, Plan(0.0, 0.05, 1))
        generator.closed(1, Plan(0.0, 0.05, 1))
    n_distinct = len({i for request in REQUESTS for i in request.query_ids}) ** 2
    queries = [tuple(body["query"]) for body in bodies[:n_distinct]]
    assert len(set(queries)) == len(queries) > 10
    assert all(len(query) == 3 for query in queries)
    assert {body["model"] for body in bodies} == {"m"} and {body["path"] for body in bodies} == {"/v1/score"}
    assert all(body["items"] == [[4], [5, 6]] and body["label_token_ids"] == [7, 8, 9] for body in bodies)


def test_vllm_is_asked_once_a_label_and_counts_as_one() -> None:
    async def answer(body: dict, writer: asyncio.StreamWriter) -> None:
        assert body["path"] == "/generative_scoring"
        await sends(http(200, {"data": [{"score": 0.2}, {"score": 0.6}]}))(body, writer)

    with serving(answer) as fake:
        generator = LoadGenerator(fake.url, REQUESTS, server="vllm")
        point = generator.closed(1, SHORT)
    assert generator.questions.calls_per_request == 3
    assert outcome_of(point.totals) == {"answered"} and point.totals.answered * 3 == fake.n_requests


@pytest.mark.parametrize(
    ("steps", "words"),
    [
        ([("strike", 1)], "request 1 "),
        ([("enter", 1), ("strike", 1), ("strike", 1)], "request 1 .*twice"),
        ([("enter", 1), ("enter", 1)], "request 1 .*twice"),
        ([("enter", 1), ("enter", 2), ("strike", 1)], "1 requests"),
    ],
)
def test_the_book_finds_its_own_mistakes(steps: list[tuple[str, int]], words: str) -> None:
    book = RequestLog(SHORT, 0)
    with pytest.raises(LostRequest, match=words):
        for step, number in steps:
            book.enter(number, 0, 0) if step == "enter" else book.strike(number, "answered", 1)
        book.windows(seeds=None, kept=10)


def test_a_record_whose_sums_are_off_is_refused() -> None:
    with pytest.raises(ValueError, match="offered=5.* 4 "):
        LoadTally(offered=5, answered=2, refused=1, failed={"oom": 1})
    with pytest.raises(ValueError, match="kind='open'.*concurrency=2"):
        LoadPoint(kind="open", concurrency=2, windows=[LoadWindow(seconds=1, finished=0)], generator_cpu_share=0)


def test_of_many_samples_an_even_part_is_kept() -> None:
    book = RequestLog(Plan(0.0, 1.0, 1), 0)
    for i in range(1000):
        book.enter(i, i * 100_000, i * 100_000)
        book.strike(i, "answered", i * 100_000 + i)
    (window,) = book.windows(seeds=None, kept=100)
    assert window.answered == 1000 and window.latency_ns == list(range(0, 1000, 10))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"bad_every": 1}, "bad_every=1 "),
        ({"timeout_seconds": 0}, "timeout_seconds=0 "),
        ({"server": "triton"}, "server='triton'"),
        ({"url": "127.0.0.1:80"}, "127.0.0.1:80.*http://HOST:PORT"),
        ({"requests": []}, "requests=\\[\\]"),
    ],
)
def test_mistakes_are_named(options: dict, words: str) -> None:
    arguments = {"url": "http://127.0.0.1:1", "requests": REQUESTS} | options
    with pytest.raises(ValueError, match=words):
        LoadGenerator(arguments.pop("url"), arguments.pop("requests"), **arguments)
