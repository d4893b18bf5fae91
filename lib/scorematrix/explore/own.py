"""Your queries: the frameworks' scores, the tokens that the model reads, and the layout of each view."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from scorematrix.report.attention import LayoutMatrix, attention_page
from scorematrix.report.html import Fragment
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
    progress: Callable[[str], None] = lambda line: None,
) -> pd.DataFrame:
    """Score a request with each framework; return the probabilities, a row per item and columns per framework.

    If a framework is not installed, its column says so.

    Args:
        scorers: further scorers by column name: functions, classes or `module:attribute`.
        progress: called with a line before a framework loads and before a backend scores.

    Raises:
        ValueError: for a view that no framework serves, or a scorer with invalid output.
    """
    backends: dict[str, Any] = {}
    frame = pd.DataFrame({"item": list(items)})
    for name in ENGINES:
        backend_entry(name, view)
        if missing := missing_packages(name):
            frame[name] = f"skipped: {missing[0]} is not installed"
            continue
        progress(f"{name} {view}: loading")
        backends[name] = load_backend(name, view=view, model=model)
    backends |= {name: load_backend(scorer, model=model) for name, scorer in (scorers or {}).items()}
    for name, backend in backends.items():
        progress(f"{name}: scoring {len(request.items_ids)} items")
        scores = finite_scores(backend.score(request), name)
        for label, column in zip(labels, scores.T, strict=True):
            frame[f"{name} P({label!r})"] = column
    return frame


def token_table(tokenizer: TextTokenizer, request: ScoreRequest) -> pd.DataFrame:
    """Return the tokens of the query and of each item, and the positions that they occupy."""
    n_query = len(request.query_ids)
    rows = [("query", n_query, 0, n_query - 1, [tokenizer.decode([i]) for i in request.query_ids])]
    for n, ids in enumerate(request.items_ids):
        rows.append((f"item {n}", len(ids), n_query, n_query + len(ids) - 1, [tokenizer.decode([i]) for i in ids]))
    return pd.DataFrame(rows, columns=["part", "tokens", "first position", "last position", "pieces"])


def attention_layout(tokenizer: TextTokenizer, request: ScoreRequest) -> Fragment:
    """Return the attention masks of the request in one call: packed (portable) and shared prefix (best_native)."""
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
    # Tiles and padding dominate a small request. At the size that is measured, they do not.
    large = ScoreRequest((0,) * 2000, ((0,) * 20,) * 500, (1, 2))
    counts = {mine: _counts(request), f"the contract's size ({_shape(large)})": _counts(large)}
    return attention_page(matrices, counts)


def _shape(request: ScoreRequest) -> str:
    return f"query of {len(request.query_ids):,} tokens, {len(request.items_ids)} items"


def _counts(request: ScoreRequest) -> dict[str, tuple[int, int, int, int]]:
    n_query, lengths = len(request.query_ids), [len(ids) for ids in request.items_ids]
    step = lay_out(request, range(len(lengths)), with_query=True, buckets=False)
    n_packed = packed_shape(request)[0]
    alone = sum((n_query + length) ** 2 for length in lengths)
    separate, shared = len(lengths) * n_query + sum(lengths), step.shape.n_tokens
    return {
        "one sequence per item (baseline)": (len(lengths), separate, 0, alone),
        "packed (portable)": (1, n_packed, n_packed - request.n_tokens, n_packed**2),
        "shared prefix (best_native)": (1, shared, shared - step.n_tokens, computed_pairs(step)),
    }


def _shared(
    tokenizer: TextTokenizer, request: ScoreRequest, step: Step, pair_tu: np.ndarray, order: Sequence[int]
) -> tuple[np.ndarray, list[tuple[str, int]], list[str]]:
    """Return pairs, parts and pieces of a step for drawing, with the padding of all blocks moved to the end."""
    q = step.shape.q
    real = [np.arange(step.n_query)]
    for block, tokens in zip(step.blocks, step.shape.block_slices, strict=True):
        real.append(tokens.start - step.shape.n_query_tokens + q + np.flatnonzero(block.item_t >= 0))
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
