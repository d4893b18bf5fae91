"""What a server accepts: limits of a request, of the queue and of a connection, and how long calls take."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Limits:
    """Limits of a request, of the queue and of a connection.

    Attributes:
        max_items: of a request.
        max_scores: items times labels of a request.
        max_tokens: of a request: the query once, plus all items. With `item_first` the query counts once per item.
        max_call_tokens: of the query plus the items that one call of the backend scores; longer requests take several.
        max_seconds: from a request's body to its answer. What recent calls show to take longer is refused at once.
        max_waiting: longest queue; further requests get 503.
        max_batch_items: most items of one call.
        max_programs: most compiled programs that a backend keeps, if it compiles one for each shape.
        body_seconds: for a request's head, again for its body to arrive, and for each half of what is left of an
            answer to be read.
        max_receiving_bytes: of all bodies that are arriving or wait to be parsed; further ones get 503.
        stalled_seconds: a call that takes longer turns `/health` into 503.
    """

    max_body_bytes: int = 8 * 2**20
    max_items: int = 10_000
    max_scores: int = 2**20
    max_tokens: int = 2**18
    max_call_tokens: int = 2**14
    max_seconds: float = 300
    max_waiting: int = 64
    max_batch_items: int = 512
    max_programs: int = 64
    body_seconds: float = 10
    max_receiving_bytes: int = 64 * 2**20
    stalled_seconds: float = 60

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if not value > 0:
                raise ValueError(f"{name}={value} must be above 0")
        if self.max_receiving_bytes < self.max_body_bytes:
            raise ValueError(
                f"max_receiving_bytes={self.max_receiving_bytes} is less than max_body_bytes={self.max_body_bytes}; "
                "give it at least as much"
            )


N_KEPT = 16
N_LEAST = 3
"""So many recent calls of a size are needed for an estimate."""


class CallSpeeds:
    """Tokens per second of recent calls, by size: a small call takes more time per token.

    Sizes are powers of two. The fastest of the last `N_KEPT` calls of a size counts, so an estimate is low.

    Args:
        kept_seconds: older calls are ignored; what slowed them may be over.
        clock: seconds.
    """

    def __init__(self, kept_seconds: float, clock: Callable[[], float]) -> None:
        self._kept_seconds, self._clock = kept_seconds, clock
        self._calls: dict[int, deque[tuple[float, float]]] = {}

    def record(self, n_tokens: int, seconds: float) -> None:
        """Add a completed call. Leave out one that compiled a program."""
        calls = self._calls.setdefault(n_tokens.bit_length(), deque(maxlen=N_KEPT))
        calls.append((self._clock(), n_tokens / max(seconds, 1e-9)))

    def by_size(self) -> dict[int, float]:
        """Return tokens per second by the most tokens of a size; sizes with few recent calls are left out."""
        oldest, speeds = self._clock() - self._kept_seconds, {}
        for n_bits, calls in sorted(self._calls.items()):
            recent = [speed for when, speed in calls if when >= oldest]
            if len(recent) >= N_LEAST:
                speeds[2**n_bits - 1] = max(recent)
        return speeds

    def seconds(self, calls: Sequence[int]) -> float:
        """Return an estimate for calls of so many tokens each; those of a size without speed count 0."""
        speeds = self.by_size()
        return sum(n / speeds.get(2 ** n.bit_length() - 1, float("inf")) for n in calls)
