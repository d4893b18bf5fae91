"""The contract of `/v1/score`, request by request: which body is answered how, and in which words it is refused."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from scorematrix.servers.serve import Limits
from scorematrix.servers.serve.wire import BadRequest, TooMuch, read_body

GOOD = {"query": [1, 2], "items": [[3], [4, 5]], "label_token_ids": [7, 9]}
VOCAB = 100


def read(content: object, raw: bytes | None = None):
    body = json.dumps(content).encode() if raw is None else raw
    return read_body(body, Limits(max_items=5), tokenizer=None, vocab_size=VOCAB, max_positions=12)


REFUSED = {
    # what is sent over the good body, and the words that name field, value and remedy
    "no labels": ({"label_token_ids": None}, "label_token_ids"),
    "labels empty": ({"label_token_ids": []}, "label_token_ids=[]"),
    "labels negative": ({"label_token_ids": [-1]}, "Token ID -1 "),
    "labels beyond": ({"label_token_ids": [100]}, "Token ID 100 "),
    "labels fraction": ({"label_token_ids": [1.5]}, "label_token_ids contains 1.5"),
    "labels true": ({"label_token_ids": [True]}, "label_token_ids contains true"),
    "labels twice": ({"label_token_ids": [7, 7]}, "label_token_ids contains 7"),
    "labels text": ({"label_token_ids": "yes"}, 'label_token_ids="yes"'),
    "labels huge": ({"label_token_ids": [10**30]}, "20 digits"),
    "no items": ({"items": None}, "items "),
    "no query": ({"query": None}, "query "),
    "items a number": ({"items": 3}, "items is a number"),
    "items of numbers": ({"items": [3, 4]}, "items[0] is a number"),
    "too many items": ({"items": [[1]] * 6}, "items has 6 items"),
    "an empty item": ({"items": [[3], []]}, "items_ids[1]=[]"),
    "an empty query": ({"query": []}, "query_ids=[]"),
    "mixed": ({"items": [[3], "car"]}, "text and token ids"),
    "text query, ids": ({"query": "is it?"}, "text and token ids"),
    "text, no tokenizer": ({"query": "is it?", "items": ["car"]}, "tokenizer"),
    "negative id": ({"query": [1, -2]}, "query_ids contains -2"),
    "id beyond": ({"items": [[3], [100]]}, "token id 100 "),
    "too long": ({"items": [[3], [4] * 11]}, "13 tokens"),
    "nested ids": ({"query": [[1]]}, "query_ids contains [1]"),
    "softmax a word": ({"apply_softmax": "yes"}, 'apply_softmax="yes"'),
    "item_first a number": ({"item_first": 1}, "item_first=1"),
    "unknown field": ({"labels": [1]}, "labels "),
}  # fmt: skip
RAW = {
    "no JSON": (b"{", "JSON"),
    "no UTF-8": (b'{"query": "\xff"}', "JSON"),
    "a list": (b"[1]", "list"),
    "empty": (b"", "JSON"),
    "not a number": (b'{"query": [NaN]}', "column 12"),
    "deep": (b"[" * 100_000, "recursion"),
    "digits": (b'{"query": [' + b"9" * 10_000 + b"]}", "JSON"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_wrong_is_named(case: str) -> None:
    change, words = REFUSED[case]
    content = {k: v for k, v in (GOOD | change).items() if v is not None}
    with pytest.raises(BadRequest) as caught:
        read(content)
    assert words in str(caught.value)


@pytest.mark.parametrize("case", RAW)
def test_bodies_that_are_no_request(case: str) -> None:
    raw, words = RAW[case]
    with pytest.raises(BadRequest) as caught:
        read(None, raw=raw)
    assert words in str(caught.value) and len(str(caught.value)) < 600


SMALL = Limits(max_items=5, max_scores=6, max_tokens=8, max_call_tokens=6)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"items": [[1]] * 6}, "items has 6 items, 5"),
        ({"items": [[1]] * 4}, "4 items times 2"),
        ({"items": [[3], [4, 5], [6, 7, 8, 9]]}, "items[2] are 9 tokens, 8"),
        ({"items": [[3] * 3, [4]], "item_first": True}, "items[1] are 8 tokens, 7"),
        ({"items": [[3, 4, 5, 6, 7]]}, "items[0] are 7 tokens, the server's memory allows 6"),
    ],
)
def test_what_exceeds_the_servers_limits_is_too_much(change: dict, words: str) -> None:
    limits = replace(SMALL, max_tokens=7) if "item_first" in change else SMALL
    with pytest.raises(TooMuch) as caught:
        read_body(json.dumps(GOOD | change).encode(), limits, tokenizer=None, vocab_size=VOCAB)
    assert words in str(caught.value) and caught.value.code == 413


def test_texts_are_tokenized_up_to_the_first_that_is_too_much() -> None:
    encoded: list[int] = []

    class Counting:
        longest_token = 4

        def encode(self, text: str) -> list[int]:
            encoded.append(len(text))
            return [1] * len(text)

    def read_texts(query: str, items: list[str]) -> None:
        body = json.dumps({"query": query, "items": items, "label_token_ids": [1]}).encode()
        read_body(body, Limits(max_tokens=100), tokenizer=Counting(), vocab_size=VOCAB, max_positions=50)

    with pytest.raises(TooMuch):
        read_texts("a", ["a" * 40] * 1000)
    assert encoded == [1, 40, 40, 40]
    with pytest.raises(BadRequest, match=r"items\[1\] has 201 characters"):
        read_texts("a", ["a", "a" * 201])
    assert encoded[4:] == [1, 1]


def test_defaults_are_the_contracts() -> None:
    (request,) = read(GOOD).requests
    assert request.apply_softmax is False and request.label_ids == (7, 9) and request.items_ids == ((3,), (4, 5))
    assert read(GOOD).n_tokens == 2 * 2 + 3
    assert read(GOOD | {"items": []}).requests == ()
    assert read(GOOD | {"model": "any", "apply_softmax": True}).requests[0].apply_softmax


def test_item_first_puts_each_item_before_the_query() -> None:
    requests = read(GOOD | {"item_first": True}).requests
    assert [(r.query_ids, r.items_ids) for r in requests] == [((3,), ((1, 2),)), ((4, 5), ((1, 2),))]
