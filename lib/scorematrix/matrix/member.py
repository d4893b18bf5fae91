"""The measuring process's side of a group: it executes the conductor's orders, and waits on a socket in between."""

from __future__ import annotations

import json
import os
import queue
import socket
import threading
from collections.abc import Callable, Generator
from contextlib import suppress
from typing import Any

from scorematrix.matrix.conductor import Member, MemberLost
from scorematrix.results import PlannedRound

Orders = Generator[dict[str, Any], dict[str, Any], None]
"""Yields orders, and is sent the answer to each."""


class ConductorGone(Exception):
    """The conductor is gone, or this process has announced that it leaves. Nothing more is to be measured here."""


def orders_from(path: str, name: str) -> Orders:
    """Yield the orders that a conductor in another process sends over a socket, up to the last one.

    Raises:
        ConductorGone: if no order will come.
    """
    connection = socket.socket(socket.AF_UNIX)
    connection.connect(path)
    lines = connection.makefile("rw", encoding="utf-8")
    message: dict[str, Any] = {"name": name, "pid": os.getpid()}
    while (order := _said(lines, message)) is not None:
        message = yield order
        if order["do"] == "end":
            _said(lines, message | {"end": True})
            return
    raise ConductorGone


def own_orders(planned: PlannedRound, conduct: Callable[[Member], None]) -> Orders:
    """Yield the orders of a conductor in a thread of this process, for a round that is executed alone.

    Args:
        conduct: gives orders to the member that it is called with, until the round is over.

    Raises:
        Exception: whatever `conduct` raises.
    """
    given: queue.SimpleQueue[dict[str, Any] | Exception | None] = queue.SimpleQueue()
    answered: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()

    def play() -> None:
        try:
            conduct(_Queued(planned, given, answered))
        except Exception as error:
            given.put(error)
        else:
            given.put(None)

    threading.Thread(target=play, name="conductor", daemon=True).start()
    while (order := given.get()) is not None:
        if isinstance(order, Exception):
            raise order
        answered.put((yield order))


class _Queued:
    """A member that passes orders to another thread and waits for its answers."""

    def __init__(self, planned: PlannedRound, given: queue.SimpleQueue, answered: queue.SimpleQueue) -> None:
        self.planned, self._given, self._answered = planned, given, answered

    def ask(self, **order: Any) -> dict[str, Any]:
        self._given.put(order)
        return self._answered.get()


def _said(lines: Any, message: dict[str, Any]) -> dict[str, Any] | None:
    """Send a message and wait for the next order; None if no order will come or the conductor is gone."""
    try:
        _say(lines, message)
        line = "" if message.get("leaves") or "end" in message else lines.readline()
    except OSError:
        return None
    return json.loads(line) if line else None


def _say(lines: Any, message: dict[str, Any]) -> None:
    lines.write(json.dumps(message) + "\n")
    lines.flush()


class Remote:
    """A member in another process, at the other end of a connection."""

    def __init__(self, planned: PlannedRound, connection: socket.socket, lines: Any) -> None:
        self.planned, self._connection, self._lines = planned, connection, lines

    def ask(self, **order: Any) -> dict[str, Any]:
        """Send the order and wait for the answer.

        Raises:
            MemberLost: if the process ends before it has answered.
        """
        try:
            _say(self._lines, order)
            line = self._lines.readline()
        except OSError as error:
            raise MemberLost(str(error)) from None
        if not line:
            raise MemberLost("its process ended")
        return json.loads(line)

    def close(self) -> None:
        """Close the connection; a process that still waits for an order ends."""
        with suppress(OSError):  # the process has ended
            self._connection.shutdown(socket.SHUT_RDWR)  # `close` alone would wait until nobody reads any more
        self._connection.close()
