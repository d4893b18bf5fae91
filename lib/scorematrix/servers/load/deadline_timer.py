"""Wake at a given time. Event loops sleep in steps of a millisecond, which is too coarse for a schedule.

Busy-waiting would be exact too, but takes a core from the server that is measured on the same machine. So a kernel
timer (timerfd) wakes the loop where available.
"""

from __future__ import annotations

import asyncio
import ctypes
import os
import sys
import time

CLOCK_MONOTONIC, NONBLOCK, CLOSE_ON_EXEC, ABSOLUTE = 1, 0o4000, 0o2000000, 1
now_ns = time.perf_counter_ns
"""On Linux this is CLOCK_MONOTONIC, the clock of the kernel timer."""


class _Spec(ctypes.Structure):
    _fields_ = (("interval", ctypes.c_long * 2), ("value", ctypes.c_long * 2))


class DeadlineTimer:
    """Timer for one waiter at a time in a running event loop. Outside Linux its resolution is a millisecond."""

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
        """Wait until a time and return the current time. If it has passed, only let pending answers come in."""
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
        """Release the timer."""
        if self._timer >= 0:
            self._loop.remove_reader(self._timer)
            os.close(self._timer)
            self._timer = -1

    def _ring(self) -> None:
        try:
            os.read(self._timer, 8)
        except BlockingIOError:  # the timer was set again after it fired
            return
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_result(None)
