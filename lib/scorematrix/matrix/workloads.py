"""Build the workload that params describe, tokenized with the tokenizer of the params' model."""

from __future__ import annotations

from scorematrix.matrix.params import CanonicalWorkload, Params, TextWorkload
from scorematrix.models.catalogue import read_description
from scorematrix.models.flops import workload_flops
from scorematrix.workload import Workload, canonical_workload, text_workload


def build_workload(params: Params) -> Workload:
    """Build the workload from the model's config and tokenizer, without reading its weights.

    Raises:
        ValueError: for a workload that the model cannot score.
    """
    workload, most = _built(params), read_description(params.model).config.max_positions
    longest = max(len(r.query_ids) + max(map(len, r.items_ids)) for r in workload.requests)
    if longest > most:
        raise ValueError(
            f"workload: query and longest item are {longest} tokens, model={params.model!r} has max_positions={most}; "
            "use a shorter query or shorter items"
        )
    if alone := next(
        (r.label_ids for r in workload.requests if workload.apply_softmax and len(r.label_ids) == 1), None
    ):
        raise ValueError(
            f"workload.label_ids={list(alone)} is one label, whose probability among the labels is always 1; "
            "name two or more, or set workload.apply_softmax=false"
        )
    return workload


def _built(params: Params) -> Workload:
    described = read_description(params.model)
    match params.workload:
        case TextWorkload() as text:
            if described.tokenizer is None:
                raise ValueError(
                    f"workload.kind='text' needs a tokenizer and model={params.model!r} has none; "
                    "use a canonical workload or another model"
                )
            return text_workload(
                text.dataset,
                described.tokenizer,
                n_queries=text.n_queries,
                items_per_query=text.items_per_query,
                apply_softmax=text.apply_softmax,
            )
        case CanonicalWorkload() as shape:
            tokens = shape.item_tokens
            if isinstance(tokens, list) and len(tokens) != 2:
                raise ValueError(f"workload.item_tokens={tokens} must be a number or [least, most]")
            tokenizer = described.tokenizer
            return canonical_workload(
                vocab_size=described.config.vocab_size,
                query_tokens=shape.query_tokens,
                n_items=shape.n_items,
                item_tokens=tokens if isinstance(tokens, int) else (tokens[0], tokens[1]),
                label_ids=shape.label_ids,
                n_queries=shape.n_queries,
                seed=shape.seed,
                excluded_ids=tokenizer.special_ids if tokenizer else (),
                apply_softmax=shape.apply_softmax,
                tokenizer_sha256=tokenizer.sha256 if tokenizer else None,
            )


def floor_flops(params: Params, workload: Workload) -> int:
    """Return the fewest floating-point operations that score the workload once, exactly, with the params' model."""
    shapes = ((len(r.query_ids), [len(ids) for ids in r.items_ids]) for r in workload.requests)
    return workload_flops(read_description(params.model).config, shapes)


def call_flops(params: Params, workload: Workload, chunk_size: int) -> int:
    """Return the operations of a pass in calls of `chunk_size` items: the query once per call, without padding."""
    calls = (call for calls in workload.calls(chunk_size) for call in calls)
    shapes = ((len(call.query_ids), [len(ids) for ids in call.items_ids]) for call in calls)
    return workload_flops(read_description(params.model).config, shapes)


def call_tokens(workload: Workload, chunk_size: int) -> int:
    """Return the tokens of a pass in calls of `chunk_size` items, the query once per call."""
    return sum(call.n_tokens for calls in workload.calls(chunk_size) for call in calls)
