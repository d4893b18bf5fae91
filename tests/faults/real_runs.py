"""Real runs of scorers that lie: real processes, notebooks, turns and gates, and the smallest workload that shows it.

    python -m tests.faults.real_runs [WORDS OF A LIE'S NAME [K/N]]

The scorer is PyTorch's portable engine with a lie of `test_search.py` in its answers, against JAX. Of each kind of lie
the first form runs that the workload can show. K/N: only every Nth, from the Kth on. Appends a line per run to
outputs/reference/controls/lies.jsonl.
"""

from __future__ import annotations

import functools
import json
import sys
import tempfile
import time
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np

from scorematrix.compare import compare_run
from scorematrix.compare.schema import Contrast
from scorematrix.matrix import fill_run, load_params
from scorematrix.models import Model, load_model
from scorematrix.models.random_weights import random_weights
from scorematrix.models.safetensors_writer import write_hf_folder
from scorematrix.results import RunStore
from scorematrix.scoring import Backend, load_backend
from scorematrix.scoring.own import remember_folder
from scorematrix.workload import Workload, WorkloadRequest
from tests.conftest import ROOT
from tests.faults.lies import LyingBackend
from tests.faults.search_lies import SEARCH_LIES
from tests.faults.test_search import LIES, wrong_after
from tests.faults.test_search_lies_in_runs import FORMS, large

RESULTS = ROOT / "outputs" / "reference" / "controls" / "lies.jsonl"
ALL = LIES | {"wrong after 2 calls": lambda: wrong_after(2)}
ALL |= {f"{name}, form {form}": lie for name, forms in SEARCH_LIES.items() for form, lie in enumerate(forms)}
SOUND = "sound"
VOCABULARY, POSITIONS = 400, 1024
PARAMS = Path(__file__).parents[1] / "fixtures" / "tiny.yaml"


def __getattr__(name: str) -> Any:
    """Return the scorer `lie_N`: the Nth lie's, as a run addresses it, and the honest one for N beyond the last."""
    kind, _, number = name.partition("_")
    if kind != "lie" or not number.isdigit():
        raise AttributeError(name)

    def scorer(model: Model, device: str, dtype: str) -> Backend:
        sound = load_backend("pytorch", view="portable", model=model, device=device, dtype=dtype)
        lies = list(ALL.values())
        return LyingBackend(sound, lies[int(number)]()) if int(number) < len(lies) else sound

    return type(name, (), {"__new__": lambda _cls, model, device, dtype: scorer(model, device, dtype)})


def address(name: str) -> str:
    """Return the address of a lie's scorer."""
    return f"tests.faults.real_runs:lie_{[*ALL, SOUND].index(name)}"


@functools.cache
def small() -> Workload:
    """Return short queries, alike in many ways, each with the same items: single tokens, long ones, one like a query.

    There are as many items as labels.
    """
    rng = np.random.default_rng(8)
    query = rng.integers(3, 390, 8).tolist()
    alike = [query[0], *(t + d for t, d in zip(query[1:-1], (1, -1, 2, -2, 0, 0), strict=True)), query[-1]]
    items = [rng.integers(3, 390, n).tolist() for n in (1, 40, 9, 9, 12, 33, 8, 1)]
    items[3] = [*items[2][:3], *items[2][4:7], items[2][3], *items[2][7:]]
    labels = sorted(rng.choice(np.arange(3, 390), 8, replace=False).tolist())
    requests = [
        WorkloadRequest(id=f"q{i}", query_ids=ids, label_ids=labels, items_ids=items)
        for i, ids in enumerate((query, alike))
    ]
    return Workload(name="w", origin="tests", apply_softmax=True, tokenizer_sha256=None, requests=requests)


def run(name: str, folder: Path, **changes: Any) -> Contrast:
    """Measure and judge a run of a lie, or of the same scorer without one."""
    config = replace(load_model("random:tiny-llama").config, vocab_size=VOCABULARY, max_positions=POSITIONS)
    write_hf_folder(folder / "model", config, random_weights(config, 11), "float32")
    scored = large() if name in FORMS or name == SOUND else small()
    own = address(name)
    params = load_params(
        PARAMS,
        {
            "model": str(folder / "model"), "rounds": 2, "passes": 3, "controls": False,
            "time_budget_seconds": 20,
            "backends": [{"backend": "jax", "views": ["best_native"]}, {"backend": own}],
            "comparisons": [{"jax": "cpu", own: "cpu"}],
            "chunk_sizes": [max(len(r.items_ids) for r in scored.requests)],
            **changes,
        },
    )  # fmt: skip
    remember_folder(ROOT)
    store = RunStore(folder / "run")
    with mock.patch("scorematrix.matrix.orchestrate.build_workload", lambda _: scored):
        fill_run(params, store)
    (contrast,) = compare_run(store.manifest(), store.workload(), store.readiness(), store.rounds()).contrasts
    return contrast


def kinds() -> list[str]:
    """Return the first form of each kind of lie that the large workload shows; the first one if it shows none."""
    of_kind: dict[str, list[str]] = {}
    for name in ALL:
        of_kind.setdefault(name.partition(", form")[0], []).append(name)
    return [next((n for n in names if n in FORMS), names[0]) for names in of_kind.values()]


def main(words: str = "", part: str = "1/1") -> None:
    """Run a form of every kind of lie whose name contains the words."""
    first, every = map(int, part.split("/"))
    for name in [n for n in [*kinds(), SOUND] if words in n][first - 1 :: every]:
        start = time.monotonic()
        with tempfile.TemporaryDirectory(prefix="lie-") as folder:
            contrast = run(name, Path(folder))
        failed = {gate.name: gate.detail for gate in contrast.gates if gate.status == "failed"}
        line = {
            "at_utc": datetime.now(UTC).isoformat(timespec="seconds"), "lie": name, "verdict": contrast.verdict,
            "seconds": round(time.monotonic() - start), "failed": failed,
        }  # fmt: skip
        with RESULTS.open("a") as out:
            out.write(json.dumps(line) + "\n")
        print(f"{name}: {contrast.verdict}, {', '.join(failed) or 'no failed gate'}", flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
