"""Reaching a Ray cluster, with one line that says what to do where there is none."""

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
    """What `--on` means to Ray: `ray` is the cluster of RAY_ADDRESS or of this machine, `ray://...` Ray's client.

    Raises:
        ValueError: for anything else.
    """
    if on == "ray":
        return os.environ.get("RAY_ADDRESS") or "auto"
    if on.startswith("ray://") and len(on) > len("ray://"):
        return on
    raise ValueError(f"--on={on!r} is no cluster; write ray, or ray://HOST:10001")


@contextmanager
def connected(on: str) -> Iterator[None]:
    """A connection to a cluster that runs already; none is ever started.

    Raises:
        ValueError: in one line, where it cannot be reached, has another version, or Ray's client is not installed.
    """
    address = cluster_address(on)
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    import ray

    try:
        _knock(address)
        ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR)
    except ImportError as error:
        raise ValueError(f"--on={on!r} needs Ray's client, `pip install 'ray[client]'`: {_line(error)}") from None
    except Exception as error:  # Ray raises its own, gRPC's, RuntimeError: all that matters is that there is no cluster
        raise ValueError(f"--on={on!r} reaches no Ray cluster at {address}: {_line(error)}; {REMEDY}") from None
    try:
        yield
    finally:
        ray.shutdown()


def living_nodes() -> list[Node]:
    """The nodes that the cluster has now."""
    import ray

    return read_nodes(ray.nodes())


def _knock(address: str) -> None:
    """Ray itself goes on trying an address where nobody is for many minutes, without a word."""
    host, colon, port = address.removeprefix("ray://").rpartition(":")
    if colon and port.isdigit():
        socket.create_connection((host.strip("[]"), int(port)), timeout=ANSWER_SECONDS).close()


def _line(error: BaseException) -> str:
    return " ".join(str(error).split())[:300]
