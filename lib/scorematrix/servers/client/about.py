"""Read a server's version, model and flags from the paths that the known kinds of server have."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import httpx

from scorematrix.privacy import printable, without_credentials
from scorematrix.scoring.stated_limits import LENGTHS, StatedLimits

PATHS = ("/health", "/version", "/server_info", "/get_server_info", "/v1/models")
"""In order: ours; vLLM's; SGLang's and sglang-jax's, new and old; the one that all servers have."""
FLAGS = (
    "attention_backend",
    "chunked_prefill_size",
    "context_length",
    "device",
    "disable_cuda_graph",
    "disable_overlap_schedule",
    "disable_radix_cache",
    "dp_size",
    "dtype",
    "enable_scoring_cache",
    "max_prefill_tokens",
    "max_running_requests",
    "mem_fraction_static",
    "model_path",
    "multi_item_scoring_chunk_size",
    "multi_item_scoring_delimiter",
    "page_size",
    "quantization",
    "tp_size",
)
"""The server arguments that change speed or scores. Others are dropped: they could name accounts or keys."""


@dataclass(frozen=True)
class About:
    """What a server reports about itself; None or empty where it reports nothing.

    Attributes:
        software: what it says that it is, with its version.
        model: the name under which it serves its model.
        dtype, weights_sha256: reported by some servers only.
        reuse_prefix: number of queries whose keys and values it keeps between requests.
    """

    software: str | None = None
    version: str | None = None
    model: str | None = None
    dtype: str | None = None
    weights_sha256: str | None = None
    precision: str | None = None
    reuse_prefix: int = 0
    device: str | None = None
    flags: dict[str, str | int | float | bool] = field(default_factory=dict)
    limits: StatedLimits = field(default_factory=StatedLimits)


def ask_about(http: httpx.Client) -> About:
    """Query a server about itself; leave out whatever it does not answer."""
    replies = {path: _json(http, path) for path in PATHS}
    health, arguments = replies["/health"], replies["/server_info"] or replies["/get_server_info"]
    arguments = arguments | _part(arguments, "server_args")
    models = replies["/v1/models"].get("data")
    first = models[0] if isinstance(models, list) and models and isinstance(models[0], dict) else {}
    version = _text(replies["/version"].get("version") or arguments.get("version") or health.get("version"))
    owner = _text(first.get("owned_by"))
    if owner is None and {"backend", "view"} <= health.keys():
        owner = f"scorematrix serve ({_text(health['backend'])} {_text(health['view'])})"
    return About(
        software=" ".join(filter(None, (owner, version))) if owner else None,
        version=version,
        model=_text(health.get("model") or first.get("id")),
        dtype=_text(health.get("dtype") or arguments.get("dtype")),
        weights_sha256=_text(health.get("weights_sha256")),
        precision=_text(health.get("precision")),
        reuse_prefix=kept if isinstance(kept := health.get("reuse_prefix"), int) else 0,
        device=_text(health.get("device")),
        flags={
            name: _flag(arguments[name]) for name in FLAGS if isinstance(arguments.get(name), str | int | float | bool)
        },
        limits=read_limits(*replies.values()),
    )


def _json(http: httpx.Client, path: str) -> dict[str, Any]:
    try:
        answer = http.get(path, timeout=10.0)
        content = answer.json() if answer.status_code == 200 else {}
    except (httpx.HTTPError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def _part(content: dict[str, Any], name: str) -> dict[str, Any]:
    part = content.get(name)
    return part if isinstance(part, dict) else {}


def _text(value: Any) -> str | None:
    return without_credentials(printable(value[:120])) if isinstance(value, str) and value else None


def _flag(value: str | int | float | bool) -> str | int | float | bool:
    return _text(value) or "" if isinstance(value, str) else value


def read_limits(*replies: Mapping[str, Any]) -> StatedLimits:
    """Read the limits out of replies of `/health`, `/v1/models` and the paths that report a server's arguments."""
    found: dict[str, int] = {}
    for part in _parts(replies):
        for name in LENGTHS:
            _keep(found, name, part.get(name))
        limits = part.get("limits")
        for name in ("max_items", "max_scores", "max_tokens", "max_call_tokens"):  # `scorematrix serve`
            _keep(found, name, limits.get(name) if isinstance(limits, dict) else None)
    return StatedLimits(found)


def _parts(replies: tuple[Mapping[str, Any], ...]) -> Iterator[Mapping[str, Any]]:
    for content in replies:
        listed = content.get("data")
        inner = [content.get("server_args"), *(listed if isinstance(listed, list) else ())]
        yield from (part for part in (content, *inner) if isinstance(part, dict))


def _keep(found: dict[str, int], name: str, value: Any) -> None:
    if isinstance(value, int) and not isinstance(value, bool) and value > 0:
        found[name] = min(value, found.get(name, value))
