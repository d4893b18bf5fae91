"""How each kind of server is asked and what it answers: a request as a body, a body as rows of probabilities.

Sources: the protocols of SGLang's and sglang-jax's `POST /v1/score` and of vLLM's `POST /generative_scoring`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import urlsplit

from scorematrix.workload.request import ScoreRequest


@dataclass(frozen=True)
class Dialect:
    """One server protocol.

    Attributes:
        framework: what computes behind it, where the server's kind decides that.
        calls: the requests to send for one of ours; their answers' rows are joined side by side.
        rows: an answer's rows, each the probabilities of the labels that one call tells.
        n_told: how many labels' probabilities one call tells; None: all of them.
    """

    path: str
    framework: str
    calls: Callable[[ScoreRequest], list[ScoreRequest]]
    rows: Callable[[dict[str, Any]], list[Any]]
    n_told: int | None = None


def body_of(request: ScoreRequest, model: str) -> dict[str, Any]:
    """The body that all dialects understand; token ids only, because text is tokenized differently by mode."""
    return {
        "model": model,
        "query": list(request.query_ids),
        "items": [list(ids) for ids in request.items_ids],
        "label_token_ids": list(request.label_ids),
        "apply_softmax": request.apply_softmax,
        "item_first": False,
    }


def _score_rows(answer: dict[str, Any]) -> list[Any]:
    return answer["scores"]


def _first_label_rows(answer: dict[str, Any]) -> list[Any]:
    return [[entry["score"]] for entry in answer["data"]]


def _each_label_first(request: ScoreRequest) -> list[ScoreRequest]:
    """vLLM answers the first label's probability only: every label is put first once."""
    labels = request.label_ids
    return [replace(request, label_ids=(one, *(label for label in labels if label != one))) for one in labels]


DIALECTS: dict[str, Dialect] = {
    "sglang": Dialect("/v1/score", "pytorch", lambda request: [request], _score_rows),
    "sglang-jax": Dialect("/v1/score", "jax", lambda request: [request], _score_rows),
    "vllm": Dialect("/generative_scoring", "pytorch", _each_label_first, _first_label_rows, n_told=1),
}


def dialect_of(server: str) -> Dialect:
    """The protocol of a kind of server.

    Raises:
        ValueError: for an unknown kind.
    """
    if server not in DIALECTS:
        raise ValueError(f"server={server!r} is unknown; known: {', '.join(DIALECTS)}")
    return DIALECTS[server]


def checked_address(url: str) -> str:
    """A server's address, without the slash at its end.

    Raises:
        ValueError: for one that is none.
    """
    try:
        parts = urlsplit(url)
        sound = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError as error:
        raise ValueError(f"url={url!r} is no address ({error}); write http://HOST:PORT") from None
    if not sound or any(character.isspace() or ord(character) < 32 for character in url):
        raise ValueError(f"url={url!r} is no address; write http://HOST:PORT")
    return url.rstrip("/")
