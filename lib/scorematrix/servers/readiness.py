"""Check that a live server is usable: it listens at its address, or its launch program is on this machine."""

from __future__ import annotations

import shutil
import sys

from scorematrix.results.target_records import SkipReason
from scorematrix.scoring.place import PLACEHOLDERS, ServerPlace
from scorematrix.scoring.registry import PEERS

PATIENCE_SECONDS = 5.0


def lacking_server(backend: str, place: ServerPlace) -> tuple[SkipReason, str, str] | None:
    """Return reason, evidence and next step for a server that is not usable; None if it is."""
    if place.launch is not None:
        paths = {"python": sys.executable, "peers": str(PEERS)}
        program = place.command(dict.fromkeys(PLACEHOLDERS, "") | paths)[0]
        if shutil.which(program) is not None:
            return None
        return (
            "not_installed",
            f"{program}, which its launch command starts, is not on this machine",
            f"install {backend} here in a separate environment, and name its program in the params; or give url",
        )
    trouble = _silence(place.address)
    if trouble is None:
        return None
    return (
        "no_answer",
        f"no server answers at {place.url}: {trouble}",
        f"start {backend} there, or let the params launch it (server.launch), then repeat the command",
    )


def _silence(url: str) -> str | None:
    """Say why an address does not answer, None if it does; any status is an answer."""
    import httpx

    try:
        httpx.get(f"{url.rstrip('/')}/health", timeout=PATIENCE_SECONDS)
    except httpx.TransportError as error:
        return str(error) or type(error).__name__
    return None
