"""The canonical synthetic workload, of the contract's shape or any other, from a seed."""

from __future__ import annotations

from collections.abc import Collection

import numpy as np

from scorematrix.workload.workload import Workload, WorkloadRequest

CONTRACT_LABEL_IDS = (9454, 2753)
"""Label tokens of the contract workload, for Qwen/Qwen3-0.6B."""


def canonical_workload(
    *,
    vocab_size: int,
    query_tokens: int = 2000,
    n_items: int = 500,
    item_tokens: int | tuple[int, int] = 20,
    label_ids: Collection[int] = CONTRACT_LABEL_IDS,
    n_queries: int = 1,
    seed: int = 0,
    excluded_ids: Collection[int] = (),
    apply_softmax: bool = True,
    tokenizer_sha256: str | None = None,
) -> Workload:
    """Draw requests of a given shape with Zipf-distributed tokens; no two queries and no two items are alike.

    Byte-pair vocabularies are ordered by merge, so roughly by frequency. The token id therefore serves as the
    rank in Zipf's law with Mandelbrot's offset (exponent 1, offset 2.7), as in natural text.

    Args:
        item_tokens: tokens of each item, or a (least, most) range to draw from evenly.
        n_queries: distinct queries, each with different items, so that no cache can help.
        excluded_ids: special and delimiter tokens, which never occur in text.

    Raises:
        ValueError: naming the argument, its value and the remedy.
    """
    least, most = (item_tokens, item_tokens) if isinstance(item_tokens, int) else item_tokens
    for name, value in (
        ("query_tokens", query_tokens),
        ("n_items", n_items),
        ("item_tokens", least),
        ("n_queries", n_queries),
    ):
        if value < 1:
            raise ValueError(f"workload: {name}={value} must be at least 1")
    if most < least:
        raise ValueError(f"workload: item_tokens={item_tokens} must be (least, most)")
    if outside := [i for i in label_ids if not 0 <= i < vocab_size]:
        raise ValueError(
            f"workload: label_ids contains {outside[0]}, but the model's vocabulary has {vocab_size} tokens"
        )
    allowed_ids = np.setdiff1d(np.arange(vocab_size), np.fromiter(excluded_ids, dtype=np.int64))
    if len(allowed_ids) < 16:
        raise ValueError(f"workload: only {len(allowed_ids)} of {vocab_size} ids are left after excluded_ids")
    weight = 1.0 / (np.arange(len(allowed_ids)) + 2.7)
    cumulative = np.cumsum(weight) / weight.sum()
    rng = np.random.Generator(np.random.PCG64(seed))

    def draw(n: int) -> list[int]:
        # Inverse of the cumulative distribution over random(): stable across numpy versions, unlike choice().
        ranks = np.minimum(np.searchsorted(cumulative, rng.random(n), side="right"), len(allowed_ids) - 1)
        return allowed_ids[ranks].tolist()

    requests = []
    for q in range(n_queries):
        query_ids = draw(query_tokens)
        items: dict[tuple[int, ...], None] = {}
        for _ in range(100 * n_items):
            if len(items) == n_items:
                break
            items.setdefault(tuple(draw(least + int(rng.random() * (most - least + 1)))))
        if len(items) < n_items:
            raise ValueError(
                f"workload: {n_items} different items of {least} to {most} tokens cannot be drawn; "
                "use fewer or longer items"
            )
        requests.append(
            WorkloadRequest(
                id=f"q{q:03d}", query_ids=query_ids, items_ids=[list(i) for i in items], label_ids=list(label_ids)
            )
        )
    shape = f"{n_queries} x ({query_tokens} + {n_items} x {least if least == most else f'{least}..{most}'})"
    return Workload(
        name=f"canonical {shape}",
        origin=f"canonical_workload(vocab_size={vocab_size}, shape={shape}, labels={list(label_ids)}, seed={seed})",
        apply_softmax=apply_softmax,
        tokenizer_sha256=tokenizer_sha256,
        requests=requests,
    )
