"""Waking at a moment: event loops sleep in whole milliseconds, which is too coarse for a schedule.

Waiting awake would be exact too, and takes a core from the server that is measured on the same machine. So the kernel's
own timer wakes the loop, where there is one.
"""

from __future__ import annotations

import asyncio
import ctypes
import os
import sys
import time

CLOCK_MONOTONIC, NONBLOCK, CLOSE_ON_EXEC, ABSOLUTE = 1, 0o4000, 0o2000000, 1
now_ns = time.perf_counter_ns
"""On Linux CLOCK_MONOTONIC, the clock that the kernel's timer is set by."""


class _Spec(ctypes.Structure):
    _fields_ = (("interval", ctypes.c_long * 2), ("value", ctypes.c_long * 2))


class Alarm:
    """Wakes one waiter at a time; elsewhere than on Linux to the millisecond only. Belongs to a running loop."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._waiting: asyncio.Future[None] | None = None
        self._timer = -1
        if sys.platform == "linux":
            self._libc = ctypes.CDLL(None, use_errno=True)
            self._timer = self._libc.timerfd_create(CLOCK_MONOTONIC, NONBLOCK | CLOSE_ON_EXEC)
        if self._timer >= 0:
            self._loop.add_reader(self._timer, self._ring)

    async def until(self, due_ns: int) -> int:
        """Wait for a moment, and tell the time; where it has passed, let answers come in first, and no more."""
        if (now := now_ns()) >= due_ns:
            await asyncio.sleep(0)
            return now_ns()
        if self._timer < 0:
            await asyncio.sleep((due_ns - now) / 1e9)
            return max(now_ns(), due_ns)
        self._waiting = self._loop.create_future()
        spec = _Spec((0, 0), divmod(due_ns, 1_000_000_000))
        self._libc.timerfd_settime(self._timer, ABSOLUTE, ctypes.byref(spec), None)
        await self._waiting
        return now_ns()

    def close(self) -> None:
        """Give the timer back."""
        if self._timer >= 0:
            self._loop.remove_reader(self._timer)
            os.close(self._timer)
            self._timer = -1

    def _ring(self) -> None:
        try:
            os.read(self._timer, 8)
        except BlockingIOError:  # it rang for a moment that has been set anew
            return
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_result(None)
