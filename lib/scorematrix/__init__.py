"""scorematrix: compare JAX and PyTorch on LLM multi-item scoring.

from scorematrix import ScoreRequest, load_backend

backend = load_backend("jax", model="smollm2-135m")
scores = backend.score(ScoreRequest(query_ids, items_ids, label_ids))  # float32 [n_items, n_labels]

from scorematrix import open_run, plots

run = open_run()  # the newest run: run.verdicts(), run.cells(), run.calls() are pandas frames
plots.throughput(run.rates())  # a matplotlib Figure
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from scorematrix.scoring.registry import load_backend
from scorematrix.workload.request import ScoreRequest

if TYPE_CHECKING:
    from scorematrix import plots
    from scorematrix.analysis import Run, open_run

__all__ = ["Run", "ScoreRequest", "__version__", "load_backend", "open_run", "plots"]
__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    """Import what needs pandas or seaborn when it is first used."""
    if name in ("Run", "open_run"):
        return getattr(importlib.import_module("scorematrix.analysis"), name)
    if name == "plots":
        return importlib.import_module("scorematrix.plots")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
