"""One caller: sends questions over one connection and classifies their outcomes."""

from __future__ import annotations

import contextlib
import time
from dataclasses import dataclass

from scorematrix.servers.client import RequestRejected, ServerBusy, ServerFault, read_answer
from scorematrix.servers.load.connection import Address, Broken, Connection
from scorematrix.servers.load.questions import Questions

LONGEST_PAUSE_SECONDS = 1.0
AFTER_NO_CONNECTION_SECONDS = 0.05


@dataclass(frozen=True, slots=True)
class Outcome:
    """The outcome of a request.

    Attributes:
        name: answered, refused, rejected, or the class of a fault.
        pause_seconds: pause before the caller's next request.
    """

    name: str
    words: str = ""
    pause_seconds: float = 0.0


ANSWERED = Outcome("answered")


class Target:
    """A server, and what all its callers know about it."""

    def __init__(self, address: Address, questions: Questions, timeout_seconds: float) -> None:
        self.address, self.questions, self.timeout_seconds = address, questions, timeout_seconds
        self.has_answered, self.surplus = False, 0


class Caller:
    """A client with one connection, opened on demand and reopened after it ends."""

    def __init__(self, target: Target) -> None:
        self._target, self._connection = target, None

    async def ask(self, number: int) -> Outcome:
        """Send one question, check the answer and return the outcome."""
        question, payloads = self._target.questions[number]
        try:
            await self._ask(question, payloads)
        except RequestRejected as error:
            self._target.has_answered = True
            return Outcome("rejected") if question.is_bad else Outcome("bad_status", str(error))
        except ServerBusy as error:
            self._target.has_answered = True
            return Outcome("refused", str(error), _pause(error.retry_after))
        except ServerFault as error:
            return Outcome(error.kind, str(error))
        except (OSError, Broken) as error:
            return await self._broken(error)
        self._target.has_answered = True
        return Outcome("bad_status", "a bad request was answered with 200") if question.is_bad else ANSWERED

    def close(self) -> None:
        """Close the connection."""
        if self._connection is not None:
            self._target.surplus += self._connection.surplus
            self._connection.close()
            self._connection = None

    async def _ask(self, question, payloads: list[bytes]) -> None:
        target, end = self._target, time.monotonic() + self._target.timeout_seconds
        for call, payload in zip(question.calls, payloads, strict=True):
            if self._connection is None or not self._connection.usable:
                self.close()
                self._connection = await Connection.open(target.address, max(0.001, end - time.monotonic()))
            answer = await self._connection.ask(payload, max(0.001, end - time.monotonic()))
            read_answer(answer.status, answer.content, call.request, target.questions.dialect,
                        retry_after=answer.retry_after)  # fmt: skip

    async def _broken(self, error: OSError) -> Outcome:
        self.close()
        if isinstance(error, TimeoutError):
            return Outcome("timeout", f"no answer within {self._target.timeout_seconds:g} s")
        reason, pause = str(error) or type(error).__name__, AFTER_NO_CONNECTION_SECONDS
        if not self._target.has_answered or await self._is_there():
            return Outcome("connection", reason, pause)
        return Outcome("server_died", f"it answered before and no longer accepts connections: {reason}", pause)

    async def _is_there(self) -> bool:
        """Return whether the address still accepts connections."""
        with contextlib.suppress(OSError):
            connection = await Connection.open(self._target.address, min(self._target.timeout_seconds, 2.0))
            connection.close()
            return True
        return False


def _pause(retry_after: str) -> float:
    """Return Retry-After in seconds. A date, or a time too long for a measurement, becomes the longest pause."""
    try:
        seconds = float(retry_after)
    except ValueError:
        return LONGEST_PAUSE_SECONDS
    return min(max(seconds, 0.0), LONGEST_PAUSE_SECONDS)
