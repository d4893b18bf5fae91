"""Queue requests for the backend's thread: join those that differ only in their items, split large ones."""

from __future__ import annotations

import asyncio
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from scorematrix.measure.memory import return_freed_memory
from scorematrix.scoring import Backend, CompilesPerShape, Scores, checked_scores
from scorematrix.servers.serve.limits import CallSpeeds, Limits
from scorematrix.workload import ScoreRequest


class QueueFull(Exception):
    """The queue is full: retry later or on another server."""


class TooSlow(Exception):
    """The request would take longer than `max_seconds`.

    Attributes:
        seconds: an estimate of the time for the request alone.
        ahead_seconds: an estimate of the time that requests ahead take from it; 0 if it is too slow without them.
    """

    def __init__(self, seconds: float, ahead_seconds: float = 0.0) -> None:
        super().__init__(f"{seconds:.1f} s after {ahead_seconds:.1f} s")
        self.seconds, self.ahead_seconds = seconds, ahead_seconds


class QueueClosed(Exception):
    """The server is stopping and accepts no more requests."""


@dataclass(eq=False)
class _Waiting:
    """A request in the queue, or what is left of it.

    Attributes:
        n_requests: number of `ScoreRequest`s it consists of.
        parts: what is not scored yet: by position, a request of a size that one call may have.
        part_seconds: an estimate for one part; 0 if unknown.
        found: by position, the scores so far.
    """

    n_requests: int
    parts: deque[tuple[int, ScoreRequest]]
    done: asyncio.Future
    part_seconds: float
    found: dict[int, list[Scores]] = field(default_factory=dict)

    def result(self) -> list[Scores]:
        """Return the scores of each request."""
        return [np.concatenate(self.found[i]) for i in range(self.n_requests)]


class BatchQueue:
    """A bounded request queue in front of a backend.

    Waiting requests with the same query, labels and softmax mode become one call, and a request that is too large for
    one call becomes several; between these, the others get their turn. An item's score does not depend on its
    neighbours, so no answer changes.

    Args:
        limits: `max_waiting`, without requests in progress; `max_seconds`, `max_programs`, and the limits of a call.
        clock: seconds.
    """

    def __init__(
        self, backend: Backend, limits: Limits | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._backend, self._limits, self._clock = backend, limits or Limits(), clock
        if isinstance(backend, CompilesPerShape):
            backend.most_programs = self._limits.max_programs
        self._speeds = CallSpeeds(self._limits.max_seconds, clock)
        self._waiting: deque[_Waiting] = deque()
        self._in_progress: list[_Waiting] = []
        self._change = threading.Condition()
        self._open = True
        self._answered: deque[tuple[asyncio.Future, list[Scores] | BaseException]] = deque()
        self._telling = False
        self._call_began: float | None = None
        self.n_calls = 0
        self._thread = threading.Thread(target=self._work, name="scoring", daemon=True)
        self._thread.start()

    @property
    def n_waiting(self) -> int:
        """Requests that are not in progress."""
        return len(self._waiting)

    @property
    def call_seconds(self) -> float:
        """Seconds since the running call of the backend began; 0 if there is none."""
        began = self._call_began
        return 0.0 if began is None else self._clock() - began

    @property
    def tokens_per_second(self) -> dict[int, float]:
        """Speed of recent calls by size: the most tokens of a call of this size, and its tokens per second."""
        with self._change:
            return self._speeds.by_size()

    async def score(self, requests: Sequence[ScoreRequest]) -> list[Scores]:
        """Return the scores of each request. If the caller is cancelled, no further call is made for it.

        Raises:
            QueueFull: if too many requests wait already.
            QueueClosed: if the server is stopping.
            TooSlow: if recent calls show that it would take longer than `max_seconds`.
            Exception: whatever the backend raises.
        """
        parts = deque((i, part) for i, request in enumerate(requests) for part in self._split(request))
        with self._change:
            if not self._open:
                raise QueueClosed
            seconds = self._speeds.seconds([part.n_tokens for _, part in parts])
            if seconds > self._limits.max_seconds:
                raise TooSlow(seconds)
            if len(self._waiting) >= self._limits.max_waiting:
                raise QueueFull
            if (ahead := self._ahead_seconds(len(parts))) and seconds + ahead > self._limits.max_seconds:
                raise TooSlow(seconds, ahead)
            done = asyncio.get_running_loop().create_future()
            waiting = _Waiting(len(requests), parts, done, seconds / len(parts))
            self._waiting.append(waiting)
            self._change.notify()
        return await waiting.done

    def close(self, timeout_seconds: float = 60.0) -> bool:
        """Accept no more requests, finish the waiting ones, and end the thread; return whether it has ended."""
        with self._change:
            self._open = False
            self._change.notify()
        self._thread.join(timeout_seconds)
        return not self._thread.is_alive()

    def abandon(self) -> None:
        """Accept no more requests and refuse all that are not answered yet. Call it on the event loop."""
        with self._change:
            self._open = False
            refused = [*self._waiting, *self._in_progress]
            self._waiting.clear()
            self._change.notify()
        for waiting in refused:
            _settle(waiting.done, QueueClosed())

    def _ahead_seconds(self, n_parts: int) -> float:
        """Return the least time that requests ahead take from one of so many parts; they take turns, part by part."""
        several, joined = 0.0, {}
        for ahead in (*self._in_progress, *self._waiting):
            seconds = ahead.part_seconds * min(n_parts, len(ahead.parts))
            if ahead.done.done() or not seconds:
                continue
            if len(ahead.parts) > 1:
                several += seconds
            else:  # those of one query may share a call
                key = ahead.parts[0][1].query_ids
                joined[key] = max(joined.get(key, 0.0), seconds)
        return max(0.0, several + sum(joined.values()) - self.call_seconds)

    def _split(self, request: ScoreRequest) -> list[ScoreRequest]:
        """Cut a request into parts of the size of a call."""
        limits, ends, n_items, n_tokens = self._limits, [], 0, 0
        room = limits.max_call_tokens - len(request.query_ids)
        for i, ids in enumerate(request.items_ids):
            if n_items and (n_items == limits.max_batch_items or n_tokens + len(ids) > room):
                ends.append(i)
                n_items = n_tokens = 0
            n_items, n_tokens = n_items + 1, n_tokens + len(ids)
        if not ends:
            return [request]
        starts = [0, *ends]
        return [
            replace(request, items_ids=request.items_ids[start:end])
            for start, end in zip(starts, [*ends, len(request.items_ids)], strict=True)
        ]

    def _work(self) -> None:
        while batch := self._next():
            try:
                scores = self._answer(batch)
                with self._change:
                    for waiting, part in zip(batch, scores, strict=True):
                        position, _ = waiting.parts.popleft()
                        waiting.found.setdefault(position, []).append(part)
                answers = [None if waiting.parts else waiting.result() for waiting in batch]
            except BaseException as error:  # any exception: the next request must still be answered
                answers = [error] * len(batch)
            self._finish(batch, answers)

    def _finish(self, batch: list[_Waiting], answers: list) -> None:
        """Hand complete answers to the event loop; put requests without one, None, at the queue's end."""
        with self._change:
            self._in_progress = []
            more = [waiting for waiting, answer in zip(batch, answers, strict=True) if answer is None]
            self._waiting.extend(waiting for waiting in more if not waiting.done.done())
        # A client that left needs no answer; after a stop there is no loop to take it.
        complete = [
            (waiting.done, answer)
            for waiting, answer in zip(batch, answers, strict=True)
            if answer is not None and not waiting.done.done()
        ]
        if not complete:
            return
        self._answered.extend(complete)
        if not self._telling:  # else a wake-up is already pending
            self._telling = True
            batch[0].done.get_loop().call_soon_threadsafe(self._settle)

    def _settle(self) -> None:
        self._telling = False  # first, so that later answers wake the loop again
        while self._answered:
            _settle(*self._answered.popleft())

    def _next(self) -> list[_Waiting]:
        """Return the oldest request and all that can share its call; none once the queue is closed and empty."""
        with self._change:
            while True:
                while self._waiting:
                    first = self._waiting.popleft()
                    if not first.done.done():
                        self._in_progress = [first, *self._alike(first)]
                        return self._in_progress
                if not self._open:
                    return []
                self._change.wait()

    def _alike(self, first: _Waiting) -> list[_Waiting]:
        if len(first.parts) != 1:
            return []
        request, others = first.parts[0][1], []
        key, n_items, n_tokens = _key(request), len(request.items_ids), request.n_tokens
        for waiting in list(self._waiting):
            request = waiting.parts[0][1]
            if len(waiting.parts) == 1 and _key(request) == key and not waiting.done.done():
                n_items += len(request.items_ids)
                n_tokens += request.n_tokens - len(request.query_ids)
                if n_items > self._limits.max_batch_items or n_tokens > self._limits.max_call_tokens:
                    break
                self._waiting.remove(waiting)
                others.append(waiting)
        return others

    def _answer(self, batch: list[_Waiting]) -> list[Scores]:
        requests = [waiting.parts[0][1] for waiting in batch]
        if len(batch) == 1:
            return [self._call(requests[0])]
        joined = replace(requests[0], items_ids=tuple(ids for r in requests for ids in r.items_ids))
        ends = np.cumsum([len(r.items_ids) for r in requests])[:-1]
        return np.split(self._call(joined), ends)

    def _call(self, request: ScoreRequest) -> Scores:
        self.n_calls += 1
        self._call_began = began = self._clock()
        try:
            scores = checked_scores(self._backend.score(request), request)
            if not self._backend.compile_events:
                with self._change:
                    self._speeds.record(request.n_tokens, self._clock() - began)
            return scores
        finally:
            self._call_began = None
            if self._backend.compile_events:  # nobody reads them here, and a client could make millions
                self._backend.compile_events.clear()
                return_freed_memory()  # of the compiler, and of a program that made room for this one


def _key(request: ScoreRequest) -> tuple:
    return request.query_ids, request.label_ids, request.apply_softmax


def _settle(done: asyncio.Future, answer: list[Scores] | BaseException) -> None:
    if done.done():  # the client has left
        return
    if isinstance(answer, BaseException):
        done.set_exception(answer if isinstance(answer, Exception) else RuntimeError(repr(answer)))
    else:
        done.set_result(answer)
