"""Check a server's response before using it: status, row count, shape, range, length of the input.

The sequential client and the load generator both use this module, so both apply the same checks.
"""

from __future__ import annotations

import json
import math
from typing import Any, Literal

import numpy as np

from scorematrix.privacy import printable, without_credentials
from scorematrix.scoring.contract import RequestRejected, Scores
from scorematrix.servers.dialects import Dialect
from scorematrix.workload.request import ScoreRequest

FaultKind = Literal["oom", "timeout", "connection", "bad_status", "bad_json", "bad_shape", "truncated", "server_died"]
OUT_OF_MEMORY = ("out of memory", "resource_exhausted", "resource exhausted", "outofmemory")
REFUSED = (400, 404, 413, 422)
SHOWN = 300


class ServerFault(RuntimeError):
    """A valid request got no valid response.

    Attributes:
        kind: the class of failure, as recorded in results.
    """

    def __init__(self, kind: FaultKind, text: str) -> None:
        super().__init__(f"{kind}: {text}")
        self.kind = kind


class ServerBusy(ServerFault):
    """503 with a Retry-After: the server works, and says when to retry.

    Attributes:
        retry_after: the raw header, seconds or a date.
    """

    def __init__(self, retry_after: str, text: str) -> None:
        super().__init__("bad_status", text)
        self.retry_after = retry_after


def read_answer(
    status: int, content: bytes | str, request: ScoreRequest, dialect: Dialect, *, retry_after: str | None = None
) -> Scores:
    """Return the scores in the response to one call.

    Raises:
        RequestRejected: if the server rejects the request.
        ServerBusy: for 503 with a Retry-After.
        ServerFault: for every other invalid response.
    """
    if status != 200:
        _raise_for(status, content, retry_after)
    try:
        answer = json.loads(content)
    except ValueError:
        raise ServerFault("bad_json", f"status 200 with {_shown(_text(content))}") from None
    if not isinstance(answer, dict):
        raise ServerFault("bad_shape", f"the response is not a JSON object: {_shown(answer)}")
    try:
        rows = dialect.rows(answer)
    except (KeyError, TypeError, AttributeError):
        raise ServerFault("bad_shape", f"the response has no scores: {_shown(answer)}") from None
    _check_length(answer, request)
    return _checked_rows(rows, len(request.items_ids), dialect.n_told or len(request.label_ids), request)


def _raise_for(status: int, content: bytes | str, retry_after: str | None) -> None:
    text = _text(content)
    if status in REFUSED:
        raise RequestRejected(f"the server rejected the request ({status}): {error_words(text)}")
    message = f"status {status}: {error_words(text)}"
    if status == 503 and retry_after:
        raise ServerBusy(retry_after, message)
    is_memory = any(phrase in text.lower() for phrase in OUT_OF_MEMORY)
    raise ServerFault("oom" if is_memory else "bad_status", message)


def error_words(text: str, most: int = SHOWN) -> str:
    """Extract the message from the error formats that servers send: one line, cut after `most` characters."""
    try:
        content = json.loads(text)
    except ValueError:
        return _shown(text, most)
    for part in (content, content.get("error") if isinstance(content, dict) else None):
        if isinstance(part, dict) and isinstance(part.get("message"), str):
            return _shown(part["message"], most)
    return _shown(text, most)


def _check_length(answer: dict[str, Any], request: ScoreRequest) -> None:
    """Raise if the server computed fewer tokens than were sent: it cut the input, even if the scores look valid."""
    usage = answer.get("usage")
    n_computed = usage.get("prompt_tokens") if isinstance(usage, dict) else None
    if isinstance(n_computed, int) and n_computed < request.n_tokens:
        raise ServerFault("truncated", f"the server computed {n_computed} tokens, {request.n_tokens} were sent")


def _checked_rows(rows: Any, n_items: int, n_labels: int, request: ScoreRequest) -> Scores:
    if not isinstance(rows, list) or len(rows) != n_items:
        got = f"{len(rows)} rows" if isinstance(rows, list) else _shown(rows)
        raise ServerFault("bad_shape", f"{got} for {n_items} items")
    for i, row in enumerate(rows):
        if not isinstance(row, list) or len(row) != n_labels:
            raise ServerFault("bad_shape", f"item {i}: {_shown(row)}; expected {n_labels} probabilities")
        for p in row:
            if not isinstance(p, (int, float)) or isinstance(p, bool) or not math.isfinite(p):
                raise ServerFault("bad_shape", f"item {i}: {_shown(p)} is not a probability")
        if request.apply_softmax and 0 in row:
            raise ServerFault("bad_shape", f"item {i}: exactly 0.0 means that a label was not read: {_shown(row)}")
    return np.asarray(rows, dtype=np.float32).reshape(n_items, n_labels)


def _text(content: bytes | str) -> str:
    return content if isinstance(content, str) else content.decode("utf-8", "replace")


def _shown(value: Any, most: int = SHOWN) -> str:
    text = without_credentials(printable(" ".join(str(value).split())))
    return text if len(text) <= most else f"{text[:most]}..."
