"""What a server accepts: the limits of a request, of the queue and of a connection. `/health` states them."""

from __future__ import annotations

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
