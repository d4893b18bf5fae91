"""Connect to a Ray cluster; without one, fail with one line that says what to do."""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager

from scorematrix.cluster.nodes import Node, read_nodes

ANSWER_SECONDS = 10.0
REMEDY = "start one (`ray start --head`), or name one: RAY_ADDRESS=HOST:6379 with --on ray, or --on ray://HOST:10001"


def cluster_address(on: str) -> str:
    """Return Ray's address for `--on`: `ray` is the cluster of RAY_ADDRESS or this machine, `ray://...` Ray's client.

    Raises:
        ValueError: for anything else.
    """
    if on == "ray":
        return os.environ.get("RAY_ADDRESS") or "auto"
    if on.startswith("ray://") and len(on) > len("ray://"):
        return on
    raise ValueError(f"--on={on!r} is not a cluster; use ray, or ray://HOST:10001")


@contextmanager
def connected(on: str) -> Iterator[None]:
    """Connect to a cluster that already runs; never start one.

    Raises:
        ValueError: in one line, if it cannot be reached, has another version, or Ray's client is not installed.
    """
    address = cluster_address(on)
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    import ray

    try:
        _knock(address)
        ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR)
    except ImportError as error:
        raise ValueError(f"--on={on!r} needs Ray's client, `pip install 'ray[client]'`: {_line(error)}") from None
    except Exception as error:  # of Ray, gRPC or Python: each means that no cluster was reached
        raise ValueError(f"--on={on!r} reaches no Ray cluster at {address}: {_line(error)}; {REMEDY}") from None
    try:
        yield
    finally:
        ray.shutdown()


def living_nodes() -> list[Node]:
    """Return the cluster's current nodes."""
    import ray

    return read_nodes(ray.nodes())


def _knock(address: str) -> None:
    """Fail soon if nothing answers at an address, which Ray would retry silently for many minutes."""
    host, colon, port = address.removeprefix("ray://").rpartition(":")
    if colon and port.isdigit():
        socket.create_connection((host.strip("[]"), int(port)), timeout=ANSWER_SECONDS).close()


def _line(error: BaseException) -> str:
    return " ".join(str(error).split())[:300]
