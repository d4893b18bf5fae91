"""What a server answered, believed only after a look: status, count, shape, range, length of the input.

One place for every client, the one that asks in turn and the one that makes load: neither believes more than the other.
"""

from __future__ import annotations

import json
import math
from typing import Any, Literal

import numpy as np

from scorematrix.scoring.contract import Scores
from scorematrix.scoring.server.dialects import Dialect
from scorematrix.workload.request import ScoreRequest

FaultKind = Literal["oom", "timeout", "connection", "bad_status", "bad_json", "bad_shape", "truncated", "server_died"]
OUT_OF_MEMORY = ("out of memory", "resource_exhausted", "resource exhausted", "outofmemory")
REFUSED = (400, 404, 413, 422)
SHOWN = 300


class ServerFault(RuntimeError):
    """A sound request was not answered soundly.

    Attributes:
        kind: its class, as results record it.
    """

    def __init__(self, kind: FaultKind, text: str) -> None:
        super().__init__(f"{kind}: {text}")
        self.kind = kind


class ServerBusy(ServerFault):
    """503 with a Retry-After: the server is sound, and says when to come again.

    Attributes:
        retry_after: the header as it came, seconds or a date.
    """

    def __init__(self, retry_after: str, text: str) -> None:
        super().__init__("bad_status", text)
        self.retry_after = retry_after


class RequestRejected(ValueError):
    """The server takes the request for a bad one (400, 404, 413, 422), in its own words."""


def read_answer(
    status: int, content: bytes | str, request: ScoreRequest, dialect: Dialect, *, retry_after: str | None = None
) -> Scores:
    """The scores in an answer to one call.

    Raises:
        RequestRejected: where the server refuses the request.
        ServerBusy: for 503 with a Retry-After.
        ServerFault: for every answer that is none.
    """
    if status != 200:
        _raise_for(status, content, retry_after)
    try:
        answer = json.loads(content)
    except ValueError:
        raise ServerFault("bad_json", f"status 200 with {_shown(_text(content))}") from None
    if not isinstance(answer, dict):
        raise ServerFault("bad_shape", f"the answer is no object: {_shown(answer)}")
    try:
        rows = dialect.rows(answer)
    except (KeyError, TypeError, AttributeError):
        raise ServerFault("bad_shape", f"the answer holds no scores: {_shown(answer)}") from None
    _check_length(answer, request)
    return _checked_rows(rows, len(request.items_ids), dialect.n_told or len(request.label_ids), request)


def _raise_for(status: int, content: bytes | str, retry_after: str | None) -> None:
    text = _text(content)
    if status in REFUSED:
        raise RequestRejected(f"the server refuses ({status}): {error_words(text)}")
    words = f"status {status}: {error_words(text)}"
    if status == 503 and retry_after:
        raise ServerBusy(retry_after, words)
    is_memory = any(words in text.lower() for words in OUT_OF_MEMORY)
    raise ServerFault("oom" if is_memory else "bad_status", words)


def error_words(text: str, most: int = SHOWN) -> str:
    """An error's own words, out of the forms that servers send them in, on one line of so many characters at most."""
    try:
        content = json.loads(text)
    except ValueError:
        return _shown(text, most)
    for part in (content, content.get("error") if isinstance(content, dict) else None):
        if isinstance(part, dict) and isinstance(part.get("message"), str):
            return _shown(part["message"], most)
    return _shown(text, most)


def _check_length(answer: dict[str, Any], request: ScoreRequest) -> None:
    """Fewer tokens computed than were sent: the input was cut, whatever the scores look like."""
    usage = answer.get("usage")
    told = usage.get("prompt_tokens") if isinstance(usage, dict) else None
    if isinstance(told, int) and told < request.n_tokens:
        raise ServerFault("truncated", f"the server computed {told} tokens, {request.n_tokens} were sent")


def _checked_rows(rows: Any, n_items: int, n_labels: int, request: ScoreRequest) -> Scores:
    if not isinstance(rows, list) or len(rows) != n_items:
        got = f"{len(rows)} rows" if isinstance(rows, list) else _shown(rows)
        raise ServerFault("bad_shape", f"{got} for {n_items} items")
    for i, row in enumerate(rows):
        if not isinstance(row, list) or len(row) != n_labels:
            raise ServerFault("bad_shape", f"item {i}: {_shown(row)} where {n_labels} probabilities are due")
        for p in row:
            if not isinstance(p, (int, float)) or isinstance(p, bool) or not math.isfinite(p):
                raise ServerFault("bad_shape", f"item {i}: {_shown(p)} is no probability")
        if request.apply_softmax and 0 in row:
            raise ServerFault("bad_shape", f"item {i}: exactly 0.0 stands where a label was not read: {_shown(row)}")
    return np.asarray(rows, dtype=np.float32).reshape(n_items, n_labels)


def _text(content: bytes | str) -> str:
    return content if isinstance(content, str) else content.decode("utf-8", "replace")


def _shown(value: Any, most: int = SHOWN) -> str:
    text = " ".join(str(value).split())
    return text if len(text) <= most else f"{text[:most]}..."
