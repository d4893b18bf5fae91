"""The protocol of each kind of server: how to build a request body, and how to read probabilities from a response.

Sources: the protocols of SGLang's and sglang-jax's `POST /v1/score` and of vLLM's `POST /generative_scoring`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Literal
from urllib.parse import urlsplit

from scorematrix.workload.request import ScoreRequest


@dataclass(frozen=True)
class Dialect:
    """One server protocol.

    Attributes:
        framework: the framework behind the server, which its kind implies.
        marker: of its points in plots.
        calls: maps one of our requests to the calls to send; their response rows are joined along the label axis.
        rows: returns a response's rows, each the probabilities of the labels that one call scores.
        n_told: number of labels that one call scores; None: all of them.
    """

    path: str
    framework: Literal["jax", "pytorch"]
    marker: str
    calls: Callable[[ScoreRequest], list[ScoreRequest]]
    rows: Callable[[dict[str, Any]], list[Any]]
    n_told: int | None = None


def _score_rows(answer: dict[str, Any]) -> list[Any]:
    return answer["scores"]


def _first_label_rows(answer: dict[str, Any]) -> list[Any]:
    return [[entry["score"]] for entry in answer["data"]]


def _each_label_first(request: ScoreRequest) -> list[ScoreRequest]:
    """Put every label first once, because vLLM returns the first label's probability only."""
    labels = request.label_ids
    return [replace(request, label_ids=(one, *(label for label in labels if label != one))) for one in labels]


DIALECTS: dict[str, Dialect] = {
    "sglang": Dialect("/v1/score", "pytorch", ">", lambda request: [request], _score_rows),
    "sglang-jax": Dialect("/v1/score", "jax", "v", lambda request: [request], _score_rows),
    "vllm": Dialect("/generative_scoring", "pytorch", "<", _each_label_first, _first_label_rows, n_told=1),
}


def dialect_of(server: str) -> Dialect:
    """Return the protocol of a kind of server.

    Raises:
        ValueError: for an unknown kind.
    """
    if server not in DIALECTS:
        raise ValueError(f"server={server!r} is unknown; known: {', '.join(DIALECTS)}")
    return DIALECTS[server]


def checked_address(url: str) -> str:
    """Return a server's address without its trailing slash.

    Raises:
        ValueError: for an invalid address.
    """
    try:
        parts = urlsplit(url)
        sound = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError as error:
        raise ValueError(f"url={url!r} is not a valid address ({error}); write http://HOST:PORT") from None
    if not sound or any(character.isspace() or ord(character) < 32 for character in url):
        raise ValueError(f"url={url!r} is not a valid address; write http://HOST:PORT")
    return url.rstrip("/")
