"""Whether a live server can be asked: somebody listens at its address, or its command is here to be started."""

from __future__ import annotations

import shutil
import sys

from scorematrix.results.targets import SkipReason
from scorematrix.scoring.place import PLACEHOLDERS, ServerPlace
from scorematrix.scoring.registry import PEERS

PATIENCE_SECONDS = 5.0


def lacking_server(backend: str, place: ServerPlace) -> tuple[SkipReason, str, str] | None:
    """Reason, evidence and next step of a server that cannot be asked; None where it can."""
    if place.launch is not None:
        paths = {"python": sys.executable, "peers": str(PEERS)}
        program = place.command(dict.fromkeys(PLACEHOLDERS, "") | paths)[0]
        if shutil.which(program) is not None:
            return None
        return (
            "not_installed",
            f"{program}, which its launch command starts, is not on this machine",
            f"install {backend} here, in an environment of its own, and name its program in the params; or give url",
        )
    trouble = _silence(str(place.url))
    if trouble is None:
        return None
    return (
        "no_answer",
        f"no server answers at {place.url}: {trouble}",
        f"start {backend} there, or let the params launch it (server.launch), then repeat the command",
    )


def _silence(url: str) -> str | None:
    """Why an address does not answer at all; any status is an answer."""
    import httpx

    try:
        httpx.get(f"{url.rstrip('/')}/health", timeout=PATIENCE_SECONDS)
    except httpx.TransportError as error:
        return str(error) or type(error).__name__
    return None
