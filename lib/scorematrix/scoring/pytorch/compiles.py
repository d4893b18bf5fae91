"""How many graphs PyTorch has compiled in this process, whoever asked for them."""

from __future__ import annotations

import sys


def compiles_so_far() -> int:
    """Graphs that torch.compile has made so far; PyTorch's compiler is not imported for the question."""
    utils = sys.modules.get("torch._dynamo.utils")
    return utils.counters["stats"]["unique_graphs"] if utils else 0
