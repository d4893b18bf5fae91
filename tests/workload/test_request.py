"""Bad requests are refused by field, value and remedy."""

from __future__ import annotations

import numpy as np
import pytest

from scorematrix import ScoreRequest, load_backend

GOOD = {"query_ids": [1, 2], "items_ids": [[3], [4, 5]], "label_ids": [6, 7]}
BAD = {
    "empty query": ({"query_ids": []}, r"query_ids=\[\]"),
    "no items": ({"items_ids": []}, r"items_ids=\[\]"),
    "empty item": ({"items_ids": [[3], []]}, r"items_ids\[1\]=\[\]"),
    "no labels": ({"label_ids": []}, r"label_ids=\[\]"),
    "negative query": ({"query_ids": [1, -2]}, "query_ids.* -2"),
    "negative item": ({"items_ids": [[3], [-1]]}, r"items_ids\[1\].* -1"),
    "negative label": ({"label_ids": [-1]}, "label_ids.* -1"),
    "label twice": ({"label_ids": [6, 7, 6]}, "label_ids.* 6 .*once"),
    "fraction": ({"query_ids": [1.5]}, "query_ids.* 1.5"),
    "truth value": ({"query_ids": [True]}, "query_ids.* True"),
    "text query": ({"query_ids": "hello"}, "query_ids='hello'"),
    "mixed text and ids": ({"items_ids": [[3], "dog"]}, r"items_ids\[1\]='dog'"),
    "text items": ({"items_ids": "dog"}, "items_ids='dog'"),
    "flat items": ({"items_ids": [3, 4]}, r"items_ids\[0\]=3"),
    "softmax": ({"apply_softmax": 1}, "apply_softmax=1"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_request_is_refused(case: str) -> None:
    change, words = BAD[case]
    with pytest.raises(ValueError, match=words):
        ScoreRequest(**(GOOD | change))


@pytest.mark.parametrize("engine", [("jax", "portable"), ("pytorch", "portable"), ("transformers", "per_item")])
@pytest.mark.parametrize("field", ["query_ids", "items_ids", "label_ids"])
def test_ids_beyond_the_vocabulary_are_refused(engine: tuple[str, str], field: str, tiny) -> None:
    request = ScoreRequest(**(GOOD | {field: [[256]] if field == "items_ids" else [256]}))
    backend = load_backend(engine[0], view=engine[1], model=tiny, device="cpu")
    with pytest.raises(ValueError, match=rf"{field}.* 256 .*256"):
        backend.score(request)


def test_chunks_keep_items_and_order() -> None:
    request = ScoreRequest([1], [[i] for i in range(7)], [2])
    chunks = request.chunks(3)
    assert [len(c.items_ids) for c in chunks] == [3, 3, 1]
    assert [i for c in chunks for i in c.items_ids] == list(request.items_ids)
    with pytest.raises(ValueError, match="chunk_size=0"):
        request.chunks(0)


def test_numpy_ids_are_taken() -> None:
    request = ScoreRequest(np.arange(3), [np.array([4, 5])], np.array([6]))
    assert request.items_ids == ((4, 5),) and type(request.query_ids[0]) is int


@pytest.mark.parametrize(
    ("arguments", "words"),
    [({"backend": "jaxx"}, "backend='jaxx'.*'jax'"), ({"view": "native"}, "view='native'"), 
     ({"dtype": "fp8"}, "dtype='fp8'"),
     ({"device": "npu"}, "device='npu'"), ({"model": "smollm"}, "model='smollm'.*smollm2-135m")],
)  # fmt: skip
def test_load_backend_refuses(arguments: dict, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        load_backend(**({"backend": "jax"} | arguments))
