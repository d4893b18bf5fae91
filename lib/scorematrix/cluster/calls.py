"""What is said to Ray and what comes back, in this library's words."""

from __future__ import annotations

import re
import time
from collections.abc import Iterable, Mapping
from contextlib import suppress
from typing import Any

import ray
from ray.exceptions import RayError, RayTaskError

from scorematrix.cluster.survey import misfit
from scorematrix.cluster.worker import NodeReport
from scorematrix.privacy import REDACTED, redacted

ADDRESS = r"\b(?:\d{1,3}\.){3}\d{1,3}(?::\d+)?\b|(?i:(?<=node name: ))[^\s,;)]+"
LOOK_SECONDS = 5.0
"""How often the cluster is asked which nodes live."""


def place(asked: Mapping[str, float], ids: Iterable[str]) -> dict[str, Any]:
    """The demand in Ray's words, on any of these nodes: which one, and when, is Ray's to say."""
    own = {name: amount for name, amount in asked.items() if name not in ("CPU", "GPU")}
    return {
        "num_cpus": asked["CPU"],
        "num_gpus": asked.get("GPU", 0),
        "resources": own,
        "label_selector": {"ray.io/node-id": f"in({','.join(sorted(ids))})"},
    }


def placed(what: Any, asked: Mapping[str, float], ids: Iterable[str], **options: int) -> Any:
    """A task, or an actor's class, that Ray will run with this demand on one of these nodes."""
    return ray.remote(what).options(**options, **place(asked, ids))


def received(ref: Any) -> Any:
    """What a call returned, of the type that the call has: Ray's stubs know nothing of it."""
    return ray.get(ref)


def wait(refs: list[Any]) -> list[Any]:
    """What is ready, after a while at most: then it is time to look which nodes live."""
    if not refs:
        time.sleep(LOOK_SECONDS / 5)
        return []
    return ray.wait(refs, timeout=LOOK_SECONDS)[0]


def answer(ref: Any) -> NodeReport | str:
    """A node's report, or why there is none."""
    try:
        return misfit(received(ref))
    except RayError as error:
        return reason_of(error)


def end(actor: Any) -> None:
    """Give an actor's node back; what runs there ends."""
    with suppress(Exception):  # it is gone already
        ray.kill(actor)


def reason_of(error: RayError) -> str:
    """Why, in Ray's words, without what it adds of addresses and processes."""
    if isinstance(error, RayTaskError):
        return redacted(f"{type(error.cause).__name__}: {error.cause}")[:300]
    lines = [line for line in str(error).splitlines() if not line.startswith("\t")]
    return f"{type(error).__name__}: {re.sub(ADDRESS, REDACTED, redacted(' '.join(lines)))}"[:300]
