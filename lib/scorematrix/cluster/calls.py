"""Calls to Ray and their answers, in this library's types."""

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
"""Interval at which the cluster is queried for living nodes."""


def place(demand: Mapping[str, float], ids: Iterable[str]) -> dict[str, Any]:
    """Return Ray's options for a demand on any of these nodes; Ray chooses the node and the time."""
    custom = {name: amount for name, amount in demand.items() if name not in ("CPU", "GPU")}
    return {
        "num_cpus": demand["CPU"],
        "num_gpus": demand.get("GPU", 0),
        "resources": custom,
        "label_selector": {"ray.io/node-id": f"in({','.join(sorted(ids))})"},
    }


def placed(what: Any, demand: Mapping[str, float], ids: Iterable[str], **options: int) -> Any:
    """Return the task or actor class that Ray will run with this demand on one of these nodes."""
    return ray.remote(what).options(**options, **place(demand, ids))


def received(ref: Any) -> Any:
    """Return a call's result, of the call's type, which Ray's stubs do not know."""
    return ray.get(ref)


def wait(refs: list[Any]) -> list[Any]:
    """Return what is ready, after LOOK_SECONDS at most, so that the caller can check which nodes live."""
    if not refs:
        time.sleep(LOOK_SECONDS / 5)
        return []
    return ray.wait(refs, timeout=LOOK_SECONDS)[0]


def answer(ref: Any) -> NodeReport | str:
    """Return a node's report, or why there is none."""
    try:
        return misfit(received(ref))
    except RayError as error:
        return reason_of(error)


def end(actor: Any) -> None:
    """End an actor and what it runs, which frees its node."""
    with suppress(Exception):  # it is gone already
        ray.kill(actor)


def reason_of(error: RayError) -> str:
    """Return Ray's text of an error, without addresses and details of processes."""
    if isinstance(error, RayTaskError):
        return redacted(f"{type(error.cause).__name__}: {error.cause}")[:300]
    lines = [line for line in str(error).splitlines() if not line.startswith("\t")]
    return f"{type(error).__name__}: {re.sub(ADDRESS, REDACTED, redacted(' '.join(lines)))}"[:300]
