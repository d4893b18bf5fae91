"""The measuring process's side of a group: it does what the conductor says, and waits on a socket in between."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Callable
from typing import Any

from scorematrix.matrix.conductor import MemberLost
from scorematrix.results import PlannedRound

Answer = Callable[[dict[str, Any]], dict[str, Any]]


def serve_turns(path: str, name: str, answer: Answer, leave: Callable[[], None]) -> None:
    """Carry out a conductor's orders until it has given the last one.

    Where the conductor is gone, this process ends at once: nothing that it could still measure has a partner.

    Args:
        leave: ends this process, once an answer has said that it leaves.
    """
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(path)
        with connection.makefile("rw", encoding="utf-8") as lines:
            _say(lines, {"name": name, "pid": os.getpid()})
            for line in lines:
                order = json.loads(line)
                words = answer(order)
                _say(lines, words)
                if words.get("leaves"):
                    break
                if order["do"] == "end":
                    return
    leave()


def _say(lines: Any, words: dict[str, Any]) -> None:
    lines.write(json.dumps(words) + "\n")
    lines.flush()


class Local:
    """A member that is measured by the process that conducts: a round that is executed on its own."""

    def __init__(self, planned: PlannedRound, answer: Answer) -> None:
        self.planned, self._answer = planned, answer

    def ask(self, **order: Any) -> dict[str, Any]:
        """Carried out here."""
        return self._answer(order)


class Remote:
    """A member in a process of its own, at the other end of a connection."""

    def __init__(self, planned: PlannedRound, connection: socket.socket, lines: Any) -> None:
        self.planned, self._connection, self._lines = planned, connection, lines

    def ask(self, **order: Any) -> dict[str, Any]:
        """Sent, and waited for.

        Raises:
            MemberLost: where the process ends before it has answered.
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
        """Hang up: a process that still waits for an order ends."""
        self._connection.close()
