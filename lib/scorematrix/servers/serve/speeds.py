"""Speed of completed calls, so that a request which would take too long is refused before work begins."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence

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
