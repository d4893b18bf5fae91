"""Read and write `/v1/score` bodies by SGLang's contract. Every mistake is a 400 that names field, value and remedy.

Source: the protocol of SGLang's `POST /v1/score`, in its newest version.
"""

from __future__ import annotations

import gc
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pydantic_core import from_json, to_json

from scorematrix.scoring import Scores
from scorematrix.servers.serve.limits import Limits
from scorematrix.workload import ScoreRequest
from scorematrix.workload.tokenizer import TextTokenizer

KNOWN = ("query", "items", "label_token_ids", "apply_softmax", "item_first", "model")
ERROR_TYPES = {400: "BadRequestError", 408: "BadRequestError", 413: "BadRequestError", 503: "ServiceUnavailableError"}


class BadRequest(ValueError):
    """The client's request cannot be scored."""

    code = 400


class TooMuch(BadRequest):
    """The client's request exceeds the server's limits."""

    code = 413


@dataclass(frozen=True)
class Asked:
    """A parsed request body.

    Attributes:
        requests: for the backend: one request with all items. With `item_first` one per item, with the item's tokens
            before the query's. Empty without items.
    """

    requests: tuple[ScoreRequest, ...]

    @property
    def n_tokens(self) -> int:
        """Tokens of all sequences as a client counts them: the query once per item."""
        return sum(len(r.query_ids) * len(r.items_ids) + sum(map(len, r.items_ids)) for r in self.requests)


def read_body(
    body: bytes,
    limits: Limits | None = None,
    *,
    tokenizer: TextTokenizer | None,
    vocab_size: int,
    max_positions: int | None = None,
) -> Asked:
    """Parse a request's body. What the limits exclude is refused before it is tokenized.

    Args:
        max_positions: of the model. A longer query plus item is refused, never truncated.

    Raises:
        TooMuch: for a request beyond the limits.
        BadRequest: naming the field, the value and the remedy.
    """
    limits = limits or Limits()
    content = _json(body)
    if not isinstance(content, dict):
        raise BadRequest(f"the body is {_kind(content)}; send a JSON object with {', '.join(KNOWN)}")
    if unknown := sorted(content.keys() - set(KNOWN)):
        raise BadRequest(f"{unknown[0][:80]} is an unknown field; known: {', '.join(KNOWN)}")
    softmax, first = (_flag(content, name) for name in ("apply_softmax", "item_first"))
    query, items = content.get("query"), content.get("items")
    if query is None or items is None:
        raise BadRequest(f"{'query' if query is None else 'items'} must be provided")
    if isinstance(items, str):
        items = [items]
    if not isinstance(items, list):
        raise BadRequest(f"items is {_kind(items)}; send a list of texts or a list of lists of token ids")
    if len(items) > limits.max_items:
        raise TooMuch(f"items has {len(items)} items, {limits.max_items} are allowed; send them in several requests")
    labels = _labels(content, vocab_size)
    if len(items) * len(labels) > limits.max_scores:
        raise TooMuch(
            f"{len(items)} items times {len(labels)} label_token_ids are over {limits.max_scores} scores; "
            "send them in several requests"
        )
    if any(isinstance(item, str) != isinstance(query, str) for item in items):
        raise BadRequest("query and items mix text and token ids; send both as text or both as token ids")
    query_ids, item_ids = _token_ids(query, items, first, tokenizer, limits, max_positions)
    if not items:
        return Asked(())
    pairs = [(item, [query_ids]) for item in item_ids] if first else [(query_ids, item_ids)]
    try:
        requests = tuple(ScoreRequest(tuple(q), tuple(map(tuple, i)), tuple(labels), softmax) for q, i in pairs)
        for request in requests:
            request.check_vocabulary(vocab_size)
    except ValueError as error:
        raise BadRequest(str(error)[:500]) from None
    return Asked(requests)


def answer_body(parsed: Asked, scores: Sequence[Scores], model: str) -> bytes:
    """Return the answer's body: one row of probabilities per item, and the number of tokens they come from."""
    rows = [row for part in scores for row in part.tolist()]
    usage = {"prompt_tokens": parsed.n_tokens, "completion_tokens": 0, "total_tokens": parsed.n_tokens}
    content = {"scores": rows, "model": model, "usage": usage, "object": "scoring"}
    return to_json(content)


def error_body(message: str, code: int) -> bytes:
    """Return an error in the contract's form."""
    kind = ERROR_TYPES.get(code, "InternalServerError")
    return json.dumps({"object": "error", "message": message, "type": kind, "param": None, "code": code}).encode()


def _json(body: bytes) -> Any:
    # The collector looks at millions of new lists again and again, which takes three times as long as parsing.
    collects = gc.isenabled()
    gc.disable()
    try:
        return from_json(body, allow_inf_nan=False)
    except ValueError as error:  # bad JSON, bad UTF-8, NaN, deep nesting
        raise BadRequest(f"the body is not JSON: {str(error)[:200]}") from None
    finally:
        if collects:
            gc.enable()


def _token_ids(
    query: Any, items: list, first: bool, tokenizer: TextTokenizer | None, limits: Limits, max_positions: int | None
) -> tuple[list[int], list[list[int]]]:
    """Return the ids of query and items; stop at the first text that exceeds a limit."""
    query_ids = _ids("query", query, tokenizer, max_positions)
    n_tokens, item_ids = 0 if first else len(query_ids), []
    for i, item in enumerate(items):
        item_ids.append(ids := _ids(f"items[{i}]", item, tokenizer, max_positions))
        n_tokens += len(ids) + (len(query_ids) if first else 0)
        if n_tokens > limits.max_tokens:
            raise TooMuch(
                f"query and items[0] to items[{i}] are {n_tokens} tokens, {limits.max_tokens} are allowed; "
                "send the items in several requests"
            )
        longest = len(query_ids) + len(ids)
        if max_positions is not None and longest > max_positions:
            raise BadRequest(
                f"query and items[{i}] are {longest} tokens, the model has {max_positions} positions; "
                "send shorter texts"
            )
        if longest > limits.max_call_tokens:
            raise TooMuch(
                f"query and items[{i}] are {longest} tokens, the server's memory allows {limits.max_call_tokens}; "
                "send shorter texts"
            )
    return query_ids, item_ids


def _flag(content: dict, name: str) -> bool:
    value = content.get(name, False)
    if not isinstance(value, bool):
        raise BadRequest(f"{name}={_shown(value)} must be true or false")
    return value


def _labels(content: dict, vocab_size: int) -> list[int]:
    labels = content.get("label_token_ids")
    if labels is None:
        raise BadRequest("label_token_ids must be provided")
    if not isinstance(labels, list) or not labels:
        raise BadRequest(f"label_token_ids={_shown(labels)} must be a list of at least one token id")
    for label in labels:
        if not isinstance(label, int) or isinstance(label, bool):
            raise BadRequest(f"label_token_ids contains {_shown(label)}, which is not an integer")
        if not 0 <= label < vocab_size:
            raise BadRequest(f"Token ID {_shown(label)} is out of vocabulary (vocab size: {vocab_size})")
    if len(set(labels)) != len(labels):
        twice = Counter(labels).most_common(1)[0][0]
        raise BadRequest(f"label_token_ids contains {twice} more than once; send each label token once")
    return labels


def _ids(name: str, value: Any, tokenizer: TextTokenizer | None, max_positions: int | None) -> list[int]:
    """Return token ids unchanged, or those of a text."""
    if isinstance(value, str):
        if tokenizer is None:
            raise BadRequest(f"{name} is text and the model served here has no tokenizer; send token ids")
        if not value:
            raise BadRequest(f"{name}='' is empty; send some text")
        if max_positions is not None and len(value) > max_positions * tokenizer.longest_token:
            raise BadRequest(
                f"{name} has {len(value)} characters, which are over {max_positions} tokens, the model's positions; "
                "send shorter texts"
            )
        return tokenizer.encode(value)
    if isinstance(value, list):
        return value  # ScoreRequest checks the ids
    raise BadRequest(f"{name} is {_kind(value)}; send text or a list of token ids")


def _kind(value: Any) -> str:
    names = {dict: "an object", list: "a list", str: "a text", bool: "a truth value", type(None): "null"}
    return names.get(type(value), "a number")


def _shown(value: Any) -> str:
    if isinstance(value, int) and abs(value) >= 10**20:
        return "a number of over 20 digits"
    text = json.dumps(value)
    return text if len(text) <= 80 else f"{text[:80]}..."
