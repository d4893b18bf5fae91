"""Account for the requests of a load: each is entered at its scheduled time and closed once, with its outcome."""

from __future__ import annotations

from array import array
from bisect import bisect_right
from collections import Counter
from dataclasses import dataclass, field

from scorematrix.servers.load_records import LoadTally, LoadWindow

SHOWN_FAULTS = 3


@dataclass(frozen=True)
class Plan:
    """A warm-up, then windows of equal length.

    Raises:
        ValueError: for a time or a number of windows out of range.
    """

    warmup_seconds: float
    seconds: float
    n_windows: int = 6

    def __post_init__(self) -> None:
        if not 0 <= self.warmup_seconds < 86_400:
            raise ValueError(f"warmup_seconds={self.warmup_seconds} must be 0 or more, and less than a day")
        if not 0 < self.seconds < 86_400:
            raise ValueError(f"seconds={self.seconds} must be above 0, and less than a day")
        if self.n_windows < 1:
            raise ValueError(f"n_windows={self.n_windows} must be at least 1")

    @property
    def lengths(self) -> list[float]:
        """Seconds of the warm-up and of each window."""
        return [self.warmup_seconds, *[self.seconds / self.n_windows] * self.n_windows]


@dataclass(eq=False)
class _Record:
    """Counts and times of one window. Page 0 is the warm-up."""

    offered: int = 0
    not_sent: int = 0
    finished: int = 0
    outcomes: Counter[str] = field(default_factory=Counter)
    latency_ns: array = field(default_factory=lambda: array("q"))
    lag_ns: array = field(default_factory=lambda: array("q"))

    def tally(self) -> dict:
        counts = dict(self.outcomes)
        known = {name: counts.pop(name, 0) for name in ("answered", "refused", "rejected")}
        return known | {"offered": self.offered, "not_sent": self.not_sent, "failed": counts}


class LostRequest(AssertionError):
    """The generator's accounts do not balance: a bug in the generator, never a fault of the server."""


class RequestLog:
    """The accounts of one point.

    Args:
        start_ns: start of the warm-up, on the clock of all other times.
    """

    def __init__(self, plan: Plan, start_ns: int) -> None:
        self._plan = plan
        ends, now = [], float(start_ns)
        for length in plan.lengths:
            now += length * 1e9
            ends.append(now)
        self._ends, self.start_ns, self.end_ns = ends, start_ns, int(now)
        self._pages = [_Record() for _ in plan.lengths]
        self._open: dict[int, tuple[_Record, int]] = {}
        self.faults: dict[str, list[str]] = {}

    @property
    def n_open(self) -> int:
        """Requests in flight."""
        return len(self._open)

    def enter(self, number: int, due_ns: int, sent_ns: int) -> None:
        """Enter a request with its scheduled and its actual send time."""
        if number in self._open:
            raise LostRequest(f"request {number} was sent twice")
        page = self._pages[min(bisect_right(self._ends, due_ns), len(self._pages) - 1)]
        page.offered += 1
        page.lag_ns.append(max(0, sent_ns - due_ns))
        self._open[number] = page, due_ns

    def enter_not_sent(self, due_ns: int) -> None:
        """Enter a scheduled request that could not be sent."""
        page = self._pages[min(bisect_right(self._ends, due_ns), len(self._pages) - 1)]
        page.offered += 1
        page.not_sent += 1

    def strike(self, number: int, outcome: str, done_ns: int, message: str = "") -> None:
        """Close a request with its outcome: answered, refused, rejected, or a class of fault.

        Raises:
            LostRequest: if it is not in flight, or no longer.
        """
        try:
            page, due_ns = self._open.pop(number)
        except KeyError:
            raise LostRequest(f"request {number} was not in flight: answered twice, or never sent") from None
        page.outcomes[outcome] += 1
        if outcome == "answered":
            page.latency_ns.append(done_ns - due_ns)
            now = bisect_right(self._ends, done_ns)
            if now < len(self._pages):  # later answers count for no window's throughput
                self._pages[now].finished += 1
        elif (
            outcome not in ("refused", "rejected") and len(known := self.faults.setdefault(outcome, [])) < SHOWN_FAULTS
        ):
            known.append(message)

    def windows(self, *, seeds: list[int] | None, kept: int) -> list[LoadWindow]:
        """Return the windows for the record, each with at most `kept` latencies.

        Raises:
            LostRequest: if a request is still in flight.
        """
        if self._open:
            raise LostRequest(f"{len(self._open)} requests are still in flight")
        return [
            LoadWindow(
                **page.tally(),
                seconds=length,
                seed=seeds[i] if seeds else None,
                finished=page.finished,
                latency_ns=_thinned(page.latency_ns, kept),
                lag_ns=_thinned(page.lag_ns, kept) if seeds else [],
            )
            for i, (page, length) in enumerate(zip(self._pages[1:], self._plan.lengths[1:], strict=True))
        ]

    def warmup(self) -> LoadTally:
        """Return the warm-up's counts."""
        return LoadTally(**self._pages[0].tally())


def _thinned(values: array, kept: int) -> list[int]:
    """Return all values, or `kept` of them at even distances."""
    n = len(values)
    return values.tolist() if n <= kept else [values[i * n // kept] for i in range(kept)]
