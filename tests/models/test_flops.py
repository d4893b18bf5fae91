"""The count of operations: against known figures, and against counting one product after the other."""

from __future__ import annotations

import pytest

from scorematrix.models import load_model
from scorematrix.models.catalogue import read_description
from scorematrix.models.flops import scoring_flops, workload_flops


@pytest.mark.parametrize(("query", "n_items", "gflop"), [(512, 64, 436), (2000, 100, 1266), (2000, 500, 4076)])
def test_known_figures(smollm2, query: int, n_items: int, gflop: int) -> None:
    config = read_description("smollm2-135m").config
    assert scoring_flops(config, query, [20] * n_items) / 1e9 == pytest.approx(gflop, rel=1e-3)


def test_against_counting_every_product() -> None:
    config = load_model("random:tiny-qwen3").config
    d, n, k, h, f = config.hidden_size, config.n_heads, config.n_kv_heads, config.head_dim, config.ffn_size
    total = 0
    sequences = [(0, 5), (5, 2), (5, 3)]  # (tokens before it that it sees, own tokens): the query, then two items
    for before, own in sequences:
        for i in range(own):
            products = [(d, n * h), (d, k * h), (d, k * h), (n * h, d), (d, f), (d, f), (f, d)]
            seen = before + i + 1
            total += sum(2 * a * b for a, b in products) + 2 * n * (2 * h * seen)
    assert scoring_flops(config, 5, [2, 3]) == config.n_layers * total
    assert workload_flops(config, [(5, [2, 3]), (5, [2, 3])]) == 2 * config.n_layers * total
