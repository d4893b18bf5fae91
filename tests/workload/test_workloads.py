"""Workloads: seeded, sealed, realistic, and as the params describe them."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from scorematrix.models import Model
from scorematrix.workload import Workload, canonical_workload, read_examples, text_workload

SHAPE = {"vocab_size": 5000, "query_tokens": 200, "n_items": 50, "label_ids": [7, 9]}


def test_contract_shape() -> None:
    workload = canonical_workload(vocab_size=151936, seed=1)
    (request,) = workload.score_requests()
    assert (len(request.query_ids), len(request.items_ids)) == (2000, 500)
    assert {len(ids) for ids in request.items_ids} == {20} and request.label_ids == (9454, 2753)


def test_same_seed_same_hash_on_every_platform() -> None:
    one = canonical_workload(**SHAPE, seed=3)
    assert one.sha256 == canonical_workload(**SHAPE, seed=3).sha256
    assert one.sha256 != canonical_workload(**SHAPE, seed=4).sha256
    assert one.requests[0].query_ids[:6] == [2, 11, 1076, 196, 2, 60]


def test_tokens_are_distributed_like_text() -> None:
    """Zipf: frequency falls with rank about as 1/rank; no constant tokens, special ids never."""
    workload = canonical_workload(
        vocab_size=5000, query_tokens=50_000, n_items=1, label_ids=[7, 9], seed=5, excluded_ids=[0, 1, 2]
    )
    counts = Counter(workload.requests[0].query_ids)
    assert not counts.keys() & {0, 1, 2}
    frequency = np.array(sorted(counts.values(), reverse=True), float)
    ranks = np.arange(1, len(frequency) + 1)
    slope = np.polyfit(np.log(ranks[10:300]), np.log(frequency[10:300]), 1)[0]
    assert -1.15 <= slope <= -0.8
    assert len(counts) > 2000


def test_queries_and_items_all_differ() -> None:
    workload = canonical_workload(**(SHAPE | {"n_queries": 4}), item_tokens=(1, 6), seed=6)
    assert len({tuple(r.query_ids) for r in workload.requests}) == 4
    for request in workload.requests:
        assert len({tuple(ids) for ids in request.items_ids}) == 50
        assert {len(ids) for ids in request.items_ids} == {1, 2, 3, 4, 5, 6}


@pytest.mark.parametrize(
    ("change", "words"),
    [({"query_tokens": 0}, "query_tokens=0"), ({"item_tokens": (5, 2)}, "item_tokens"), ({"label_ids": [5000]}, "5000"),
     ({"vocab_size": 20, "label_ids": [1], "excluded_ids": range(10)}, "10 of 20"),
     ({"vocab_size": 40, "item_tokens": 1, "n_items": 41}, "41")],
)  # fmt: skip
def test_impossible_shapes_are_refused(change: dict, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        canonical_workload(**(SHAPE | change))


def test_shipped_data_set() -> None:
    examples = read_examples("yes_no")
    assert len(examples) >= 8
    for example in examples:
        assert len(example.items) >= 40 and len(set(example.items)) == len(example.items)
        assert set(example.gold) == set(example.labels) and len(example.gold) == len(example.items)
        assert len({len(item.split()) for item in example.items}) >= 4, "items differ in length"


def test_embedded_model_beats_chance_on_the_shipped_data_set(smollm2: Model) -> None:
    from scipy import stats

    from scorematrix import load_backend

    backend = load_backend("pytorch", model=smollm2, device="cpu")
    workload = text_workload("yes_no", smollm2.tokenizer, items_per_query=24)
    areas = []
    for request, scored in zip(workload.requests, workload.score_requests(), strict=True):
        first, right = backend.score(scored)[:, 0], np.array(request.gold) == 0
        areas.append(stats.mannwhitneyu(first[right], first[~right]).statistic / (right.sum() * (~right).sum()))
    assert min(areas) > 0.55 and np.mean(areas) > 0.75


@pytest.mark.parametrize(
    ("line", "words"),
    [("{", "line 1"), ('{"id": "a"}', "query"), ('{"id":"a","query":"q","labels":["x"],"items":[]}', "items"),
     ('{"id":"a","query":"q","labels":[" yes"],"items":["i"],"gold":[" no"]}', "gold.*' no'"),
     ('{"id":"a","query":"q","labels":[" yes"],"items":["i"],"gold":[]}', "gold.*1"),
     ('{"id":"a","query":"q","labels":["not one token"],"items":["i"]}', "label='not one token'"),
     ("", "example")],
)  # fmt: skip
def test_bad_data_sets_are_refused(tmp_path: Path, smollm2: Model, line: str, words: str) -> None:
    path = tmp_path / "d.jsonl"
    path.write_text(line + "\n")
    with pytest.raises(ValueError, match=words):
        text_workload(str(path), smollm2.tokenizer)


def test_edited_workload_is_refused() -> None:
    content = json.loads(canonical_workload(**SHAPE).model_dump_json())
    content["requests"][0]["items_ids"][0][0] += 1
    with pytest.raises(ValueError, match="sha256="):
        Workload.model_validate(content)
