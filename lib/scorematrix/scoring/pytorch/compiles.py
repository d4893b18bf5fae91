"""Count the programs that PyTorch has compiled in this process for any caller."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import Any


@dataclass
class Counts:
    """Programs compiled ahead of time: made by this process, and loaded from disk."""

    made: int = 0
    loaded: int = 0


COUNTS = Counts()


def compiles_so_far() -> int:
    """Return the number of programs so far, torch.compile's graphs included."""
    counters = compiler_counters()
    return COUNTS.made + COUNTS.loaded + (counters["stats"]["unique_graphs"] if counters else 0)


def compiler_counters() -> Any:
    """Return torch.compile's counters; None if nothing has imported PyTorch's compiler yet."""
    utils = sys.modules.get("torch._dynamo.utils")
    return utils.counters if utils else None
