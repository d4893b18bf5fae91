"""Read the limits that a server states."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from scorematrix.scoring.stated_limits import LENGTHS, StatedLimits


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
