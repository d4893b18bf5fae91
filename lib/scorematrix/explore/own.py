"""Own queries: what both frameworks answer, what the model reads, and what each layout makes of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from scorematrix.report.attention import LayoutCount, LayoutMatrix, attention_page
from scorematrix.report.elements import Fragment
from scorematrix.scoring.contract import finite_scores
from scorematrix.scoring.packing import pack, packed_shape
from scorematrix.scoring.registry import backend_entry, load_backend, missing_packages
from scorematrix.scoring.shared_prefix import Step, lay_out
from scorematrix.scoring.visibility import MASKED, computed_pairs, packed_visibility, shared_visibility
from scorematrix.workload.request import ScoreRequest

if TYPE_CHECKING:
    from scorematrix.models import Model
    from scorematrix.workload.tokenizer import TextTokenizer

ENGINES = ("jax", "pytorch")


def compare_backends(
    model: Model,
    request: ScoreRequest,
    items: Sequence[str],
    labels: Sequence[str],
    view: str = "portable",
    scorers: Mapping[str, Any] | None = None,
    progress: Callable[[str], None] = lambda words: None,
) -> pd.DataFrame:
    """Score a request by each framework; return probabilities side by side, a row per item.

    A framework that is not installed says so in its column.

    Args:
        scorers: your own beside them, by the name of their columns: functions, classes or `module:attribute`.
        progress: called with a line before an engine loads.

    Raises:
        ValueError: for a view that no framework serves, or a scorer that does not answer as it should.
    """
    asked: dict[str, Any] = {}
    frame = pd.DataFrame({"item": list(items)})
    for name in ENGINES:
        backend_entry(name, view)
        if missing := missing_packages(name):
            frame[name] = f"skipped: {missing[0]} is not installed"
            continue
        progress(f"{name} {view}: loading")
        asked[name] = load_backend(name, view=view, model=model)
    asked |= {name: load_backend(scorer, model=model) for name, scorer in (scorers or {}).items()}
    for name, backend in asked.items():
        progress(f"{name}: scoring {len(request.items_ids)} items")
        scores = finite_scores(backend.score(request), name)
        for label, column in zip(labels, scores.T, strict=True):
            frame[f"{name} P({label!r})"] = column
    return frame


def token_table(tokenizer: TextTokenizer, request: ScoreRequest) -> pd.DataFrame:
    """How query and items came out as tokens, and the position at which each is read."""
    n_query = len(request.query_ids)
    rows = [("query", n_query, 0, n_query - 1, [tokenizer.decode([i]) for i in request.query_ids])]
    for n, ids in enumerate(request.items_ids):
        rows.append((f"item {n}", len(ids), n_query, n_query + len(ids) - 1, [tokenizer.decode([i]) for i in ids]))
    return pd.DataFrame(rows, columns=["part", "tokens", "first position", "last position", "pieces"])


def attention_layout(tokenizer: TextTokenizer, request: ScoreRequest) -> Fragment:
    """Who sees whom when the request is sent in one call: packed (portable) against shared prefix (best_native)."""
    chunk = pack(request)
    step = lay_out(request, range(len(request.items_ids)), with_query=True, buckets=False)
    packed, shared = packed_visibility(chunk), shared_visibility(step)
    lengths = [len(ids) for ids in request.items_ids]
    order = step.request_index.tolist()
    matrices = [
        LayoutMatrix(
            "portable: packed under a dense mask",
            packed,
            _parts(request, range(len(lengths)), len(packed)),
            _pieces(tokenizer, request, range(len(lengths))),
        ),
        LayoutMatrix("best_native: shared prefix", *_shared(tokenizer, request, step, shared, order)),
    ]
    mine = f"this request ({_shape(request)}; {_counting(shared):,} pairs are needed)"
    # So few tokens show tiles and padding for more than they are; at the size that is measured they are not.
    large = ScoreRequest((0,) * 2000, ((0,) * 20,) * 500, (1, 2))
    counts = {mine: _counts(request), f"the contract's size ({_shape(large)})": _counts(large)}
    return attention_page(matrices, counts)


def _shape(request: ScoreRequest) -> str:
    return f"query of {len(request.query_ids):,} tokens, {len(request.items_ids)} items"


def _counts(request: ScoreRequest) -> list[LayoutCount]:
    n_query, lengths = len(request.query_ids), [len(ids) for ids in request.items_ids]
    step = lay_out(request, range(len(lengths)), with_query=True, buckets=False)
    n_packed = packed_shape(request)[0]
    alone = sum((n_query + length) ** 2 for length in lengths)
    own, shared = len(lengths) * n_query + sum(lengths), step.shape.n_tokens
    return [
        LayoutCount("one sequence an item (baseline)", len(lengths), own, 0, alone),
        LayoutCount("packed (portable)", 1, n_packed, n_packed - request.n_tokens, n_packed**2),
        LayoutCount("shared prefix (best_native)", 1, shared, shared - step.n_tokens, computed_pairs(step)),
    ]


def _shared(
    tokenizer: TextTokenizer, request: ScoreRequest, step: Step, pair_tu: np.ndarray, order: Sequence[int]
) -> tuple[np.ndarray, list[tuple[str, int]], list[str]]:
    """The step as it is drawn: its blocks' padding is put together at the end."""
    q = step.shape.q
    real = [np.arange(step.n_query)]
    for block, own in zip(step.blocks, step.shape.block_slices, strict=True):
        real.append(own.start - step.shape.n_query_tokens + q + np.flatnonzero(block.item_t >= 0))
    kept = np.concatenate(real)
    kept = np.concatenate([kept, np.setdiff1d(np.arange(len(pair_tu)), kept)])
    return pair_tu[np.ix_(kept, kept)], _parts(request, order, len(pair_tu)), _pieces(tokenizer, request, order)


def _parts(request: ScoreRequest, order: Sequence[int], n_columns: int) -> list[tuple[str, int]]:
    parts = [("query", len(request.query_ids)), *((f"item {i}", len(request.items_ids[i])) for i in order)]
    padding = n_columns - request.n_tokens
    return [*parts, ("padding", padding)] if padding else parts


def _pieces(tokenizer: TextTokenizer, request: ScoreRequest, order: Sequence[int]) -> list[str]:
    ids = [*request.query_ids, *(token for i in order for token in request.items_ids[i])]
    return [tokenizer.decode([token]) for token in ids]


def _counting(pair_tu: np.ndarray) -> int:
    return int((pair_tu > MASKED).sum())
