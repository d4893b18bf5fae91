"""Queries whose keys and values are kept between calls: only when asked for, bounded, and stated in the result."""

from __future__ import annotations

from collections import OrderedDict
from typing import Generic, TypeVar

Prefix = TypeVar("Prefix")


class PrefixCache(Generic[Prefix]):
    """The prefixes of the queries seen last, by their token ids; with a limit of 0 nothing is ever kept."""

    def __init__(self, limit: int) -> None:
        if not isinstance(limit, int) or limit < 0:
            raise ValueError(f"reuse_prefix={limit!r} must be a whole number of queries to keep, 0 for none")
        self.limit = limit
        self._kept: OrderedDict[tuple[int, ...], Prefix] = OrderedDict()

    def get(self, query_ids: tuple[int, ...]) -> Prefix | None:
        """The prefix of a query, which counts as seen just now; None where it is not kept."""
        if query_ids in self._kept:
            self._kept.move_to_end(query_ids)
        return self._kept.get(query_ids)

    def put(self, query_ids: tuple[int, ...], prefix: Prefix) -> None:
        """Keep a prefix; the one seen longest ago goes where there is no room."""
        self._kept[query_ids] = prefix
        self._kept.move_to_end(query_ids)
        while len(self._kept) > self.limit:
            self._kept.popitem(last=False)

    def clear(self) -> None:
        """Forget all."""
        self._kept.clear()

    def __len__(self) -> int:
        return len(self._kept)
