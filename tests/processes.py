"""Finding the processes that runs start. A process may end while one asks."""

from __future__ import annotations

import psutil

KERNEL = "ipykernel_launcher"


def running(word: str, *, under: int | None = None, **environment: str) -> list[psutil.Process]:
    """The processes that live and have a word in their command line.

    Args:
        under: only descendants of this process, in the order they are listed; all of the machine's without it.
        environment: what their environment holds.
    """
    found = []
    for process in psutil.process_iter() if under is None else psutil.Process(under).children(recursive=True):
        try:
            known = process.as_dict(["cmdline", "environ"])
        except psutil.NoSuchProcess:
            continue
        held = known["environ"] or {}  # nothing is told of one that has ended and is not yet reaped
        if word in " ".join(known["cmdline"] or []) and held | environment == held:
            found.append(process)
    return found
