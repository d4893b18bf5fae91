"""How many programs PyTorch has compiled in this process, whoever asked for them."""

from __future__ import annotations

import sys
from dataclasses import dataclass


@dataclass
class Counts:
    """Programs compiled ahead of time: made by this process, and loaded from disk."""

    made: int = 0
    loaded: int = 0


COUNTS = Counts()


def compiles_so_far() -> int:
    """Programs so far, torch.compile's graphs included; PyTorch's compiler is not imported for the question."""
    utils = sys.modules.get("torch._dynamo.utils")
    return COUNTS.made + COUNTS.loaded + (utils.counters["stats"]["unique_graphs"] if utils else 0)
