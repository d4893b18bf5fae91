"""Queue requests for the thread that owns the backend, and batch those that differ only in their items."""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from scorematrix.scoring import Backend, Scores, checked_scores
from scorematrix.workload import ScoreRequest


class QueueFull(Exception):
    """The queue is full: retry later or on another server."""


class QueueClosed(Exception):
    """The server is stopping and accepts no more requests."""


@dataclass(frozen=True, eq=False)
class _Waiting:
    requests: tuple[ScoreRequest, ...]
    done: asyncio.Future


class BatchQueue:
    """A bounded request queue in front of a backend.

    Waiting requests with the same query, labels and softmax mode become one call. An item's score does not depend on
    its neighbours, so no answer changes.

    Args:
        max_waiting: most waiting requests, without those in progress.
        max_batch_items: most items in a batch of several requests.
    """

    def __init__(self, backend: Backend, *, max_waiting: int = 64, max_batch_items: int = 512) -> None:
        self._backend, self._max_waiting, self._max_batch_items = backend, max_waiting, max_batch_items
        self._waiting: deque[_Waiting] = deque()
        self._change = threading.Condition()
        self._open = True
        self._answered: deque[tuple[asyncio.Future, list[Scores] | BaseException]] = deque()
        self._telling = False
        self.n_calls = 0
        self._thread = threading.Thread(target=self._work, name="scoring", daemon=True)
        self._thread.start()

    @property
    def n_waiting(self) -> int:
        """Requests that are not in progress yet."""
        return len(self._waiting)

    async def score(self, requests: Sequence[ScoreRequest]) -> list[Scores]:
        """Return the scores of each request.

        Raises:
            QueueFull: if too many requests wait already.
            QueueClosed: if the server is stopping.
            Exception: whatever the backend raises.
        """
        waiting = _Waiting(tuple(requests), asyncio.get_running_loop().create_future())
        with self._change:
            if not self._open:
                raise QueueClosed
            if len(self._waiting) >= self._max_waiting:
                raise QueueFull
            self._waiting.append(waiting)
            self._change.notify()
        return await waiting.done

    def close(self, timeout_seconds: float = 60.0) -> None:
        """Accept no more requests, finish the waiting ones, and end the thread."""
        with self._change:
            self._open = False
            self._change.notify()
        self._thread.join(timeout_seconds)

    def _work(self) -> None:
        while (batch := self._next()) is not None:
            try:
                answers = self._answer(batch)
            except BaseException as error:  # any exception: the next request must still be answered
                answers = [error] * len(batch)
            self._tell(batch, answers)

    def _tell(self, batch: list[_Waiting], answers: list) -> None:
        """Hand answers to the event loop. Wake it unless a wake-up is already pending."""
        self._answered.extend((waiting.done, answer) for waiting, answer in zip(batch, answers, strict=True))
        if not self._telling:
            self._telling = True
            batch[0].done.get_loop().call_soon_threadsafe(self._settle)

    def _settle(self) -> None:
        self._telling = False  # first, so that later answers wake the loop again
        while self._answered:
            _settle(*self._answered.popleft())

    def _next(self) -> list[_Waiting] | None:
        """Return the oldest request and all that can share its call; None once the queue is closed and empty."""
        with self._change:
            while True:
                while self._waiting:
                    first = self._waiting.popleft()
                    if not first.done.cancelled():
                        return [first, *self._alike(first)]
                if not self._open:
                    return None
                self._change.wait()

    def _alike(self, first: _Waiting) -> list[_Waiting]:
        if len(first.requests) != 1:
            return []
        key, n_items, others = _key(first.requests[0]), len(first.requests[0].items_ids), []
        for waiting in list(self._waiting):
            request = waiting.requests[0]
            if len(waiting.requests) == 1 and _key(request) == key and not waiting.done.cancelled():
                n_items += len(request.items_ids)
                if n_items > self._max_batch_items:
                    break
                self._waiting.remove(waiting)
                others.append(waiting)
        return others

    def _answer(self, batch: list[_Waiting]) -> list[list[Scores]]:
        if len(batch) == 1:
            return [[self._call(request) for request in batch[0].requests]]
        requests = [waiting.requests[0] for waiting in batch]
        joined = replace(requests[0], items_ids=tuple(ids for r in requests for ids in r.items_ids))
        ends = np.cumsum([len(r.items_ids) for r in requests])[:-1]
        return [[part] for part in np.split(self._call(joined), ends)]

    def _call(self, request: ScoreRequest) -> Scores:
        self.n_calls += 1
        return checked_scores(self._backend.score(request), request)


def _key(request: ScoreRequest) -> tuple:
    return request.query_ids, request.label_ids, request.apply_softmax


def _settle(done: asyncio.Future, answer: list[Scores] | BaseException) -> None:
    if done.done():  # the client has left
        return
    if isinstance(answer, BaseException):
        done.set_exception(answer if isinstance(answer, Exception) else RuntimeError(repr(answer)))
    else:
        done.set_result(answer)
