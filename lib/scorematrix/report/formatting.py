"""Figures as text: converted units, three significant digits, `n/a` for missing values."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

NONE = "n/a"
MARKS = ("PASSED", "FAILED", "NOT RUN", "DEFERRED", "INVALID", "SKIPPED", "UNDECIDED")
"""States that stand out at the start of a table's cell."""


class TextTable(NamedTuple):
    """A table as text, for the page (`html.table`) and the terminal (`terminal.terminal_table`).

    Attributes:
        text_columns: indices of the text columns; the others are numeric and right-aligned.
    """

    caption: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    text_columns: Sequence[int] = (0,)


def significant(value: float | None, digits: int = 3) -> str:
    """Return a number with this many significant digits and separated thousands."""
    if value is None or math.isnan(value):
        return NONE
    if math.isinf(value):
        return "infinite"
    if value == 0:
        return "0"
    places = digits - 1 - math.floor(math.log10(abs(value)))
    return f"{round(value, places):,.{max(places, 0)}f}"


def milliseconds(seconds: float | None) -> str:
    """Return seconds as milliseconds."""
    return NONE if seconds is None else significant(seconds * 1e3)


def giga(value: float | None) -> str:
    """Return bytes as GB, or operations as GFLOP."""
    return significant(None if value is None else value / 1e9)


def percent(fraction: float | None) -> str:
    """Return a fraction as a percentage."""
    return NONE if fraction is None else f"{significant(fraction * 100)} %"


def small(value: float | None) -> str:
    """Return a tiny difference in scientific notation."""
    return NONE if value is None else "0" if value == 0 else f"{value:.1e}"


def span(low: float | None, high: float | None) -> str:
    """Return an interval."""
    return NONE if low is None or high is None else f"{significant(low)} to {significant(high)}"


def counted(n: int, one: str, many: str) -> str:
    """Return a number with the noun that it counts."""
    return f"{n:,} {one if n == 1 else many}"


def lengths(values: list[int]) -> str:
    """Return the minimum and maximum of a list of counts, once if they are equal."""
    return f"{min(values)}" if min(values) == max(values) else f"{min(values)} to {max(values)}"
