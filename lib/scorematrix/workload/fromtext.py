"""Make a score request from text, for people and notebooks. Workloads are tokenized once and stored as ids."""

from __future__ import annotations

from collections.abc import Sequence

from scorematrix.workload.request import ScoreRequest
from scorematrix.workload.tokenizer import TextTokenizer


def score_request_from_text(
    tokenizer: TextTokenizer | None,
    query: str,
    items: Sequence[str],
    labels: Sequence[str],
    *,
    apply_softmax: bool = True,
) -> ScoreRequest:
    """Tokenize query, items and labels separately, without special tokens.

    Raises:
        ValueError: for a model without a tokenizer, an empty text, or a label that is not one token.
    """
    if tokenizer is None:
        raise ValueError("text needs a tokenizer and this model has none; send token ids, or use another model")
    for name, texts in (("query", [query]), ("item", items), ("label", labels)):
        if "" in texts:
            raise ValueError(f"{name}='' is empty; give some text")
    return ScoreRequest(
        tuple(tokenizer.encode(query)),
        tuple(tuple(tokenizer.encode(item)) for item in items),
        tuple(tokenizer.label_id(label) for label in labels),
        apply_softmax,
    )
