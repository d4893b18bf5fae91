"""A cache of queries' keys and values between calls: opt-in, bounded, and stated in the result."""

from __future__ import annotations

from collections import OrderedDict
from typing import Generic, TypeVar

Prefix = TypeVar("Prefix")


class PrefixCache(Generic[Prefix]):
    """The prefixes of the most recently used queries, by token ids; a limit of 0 keeps nothing."""

    def __init__(self, limit: int) -> None:
        if not isinstance(limit, int) or limit < 0:
            raise ValueError(f"reuse_prefix={limit!r} must be an integer of at least 0: the number of queries to keep")
        self.limit = limit
        self._kept: OrderedDict[tuple[int, ...], Prefix] = OrderedDict()

    def get(self, query_ids: tuple[int, ...]) -> Prefix | None:
        """Return the prefix of a query and mark it as most recently used; None if it is not kept."""
        if query_ids in self._kept:
            self._kept.move_to_end(query_ids)
        return self._kept.get(query_ids)

    def put(self, query_ids: tuple[int, ...], prefix: Prefix) -> None:
        """Keep a prefix; evict the least recently used one if there is no room."""
        self._kept[query_ids] = prefix
        self._kept.move_to_end(query_ids)
        while len(self._kept) > self.limit:
            self._kept.popitem(last=False)

    def clear(self) -> None:
        """Remove all prefixes."""
        self._kept.clear()

    def __len__(self) -> int:
        return len(self._kept)
