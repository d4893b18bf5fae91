"""scorematrix: compare JAX and PyTorch on LLM multi-item scoring.

from scorematrix import ScoreRequest, load_backend

backend = load_backend("jax", model="smollm2-135m")
scores = backend.score(ScoreRequest(query_ids, items_ids, label_ids))  # float32 [n_items, n_labels]
"""

from scorematrix.scoring.registry import load_backend
from scorematrix.workload.request import ScoreRequest

__all__ = ["ScoreRequest", "__version__", "load_backend"]
__version__ = "0.1.0"
