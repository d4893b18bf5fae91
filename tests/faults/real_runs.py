"""Real runs of scorers that lie: real processes, notebooks, turns and gates, on a workload that shows them.

    python -m tests.faults.real_runs [WORDS OF A LIE'S NAME]

Each scorer is a PyTorch engine with a lie of `test_search.py` in its answers, measured against JAX. One form of every
kind of lie runs, several in one run, and the engine without a lie beside them. Appends a line per scorer to
outputs/reference/controls/lies.jsonl: the verdict, the failed gates, and how many of its answers were wrong.
"""

from __future__ import annotations

import functools
import json
import os
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

import numpy as np

from scorematrix.compare import compare_run
from scorematrix.matrix import fill_run, load_params
from scorematrix.models import Model, load_model
from scorematrix.models.random_weights import random_weights
from scorematrix.models.safetensors_writer import write_hf_folder
from scorematrix.results import RunStore
from scorematrix.scoring import Backend, Scores, load_backend
from scorematrix.scoring.own import remember_folder
from scorematrix.workload import ScoreRequest, Workload, WorkloadRequest
from tests.conftest import ROOT
from tests.faults.lies import Answer, LyingBackend
from tests.faults.search_lies import SEARCH_LIES
from tests.faults.test_search import LIES, wrong_after
from tests.faults.test_search_lies_in_runs import FORMS, large

RESULTS = ROOT / "outputs" / "reference" / "controls" / "lies.jsonl"
PARAMS = ROOT / "tests" / "fixtures" / "tiny.yaml"
ALL = LIES | {"wrong after 2 calls": lambda: wrong_after(2)}
ALL |= {f"{name}, form {form}": lie for name, forms in SEARCH_LIES.items() for form, lie in enumerate(forms)}
SOUND = "no lie"
TOGETHER = 6
"""Lies of a run: so many processes, and two more, are alive at once."""
WRONG = "SCOREMATRIX_TEST_WRONG"
"""Variable with the folder in which a scorer counts its wrong answers, a byte each."""


class Found(NamedTuple):
    """What a run says of a scorer.

    Attributes:
        failed: names of gates, without the scorer's.
        n_wrong: wrong answers of all its processes.
    """

    verdict: str
    failed: list[str]
    n_wrong: int


def __getattr__(name: str) -> Any:
    """Return the scorer `lie_N_VIEW`: the Nth lie around that view, or that view itself for N beyond the last."""
    kind, _, rest = name.partition("_")
    number, _, view = rest.partition("_")
    if kind != "lie" or not number.isdigit():
        raise AttributeError(name)

    def scorer(_: type, model: Model, device: str, dtype: str) -> Backend:
        sound = load_backend("pytorch", view=view, model=model, device=device, dtype=dtype)
        lies = list(ALL.values())
        if int(number) == len(lies):
            return sound
        return LyingBackend(sound, counted(lies[int(number)](), Path(os.environ[WRONG]) / name))

    return type(name, (), {"__new__": scorer})


def counted(lie: Answer, file: Path) -> Answer:
    """Return the lie, which appends a byte to the file for every wrong answer."""

    def answer(sound: Backend, request: ScoreRequest) -> Scores:
        scores, right = lie(sound, request), sound.score(request)
        if scores.shape != right.shape or np.abs(scores - right).max() > 1e-5:
            with file.open("a") as out:
                out.write(".")
        return scores

    return answer


@functools.cache
def small() -> Workload:
    """Return short queries, alike in many ways, with the same items: single tokens, long ones, one like a query.

    There are as many items as labels.
    """
    rng = np.random.default_rng(8)
    query = rng.integers(3, 390, 8).tolist()
    alike = [query[0], *(t + d for t, d in zip(query[1:-1], (1, -1, 2, -2, 0, 0), strict=True)), query[-1]]
    items = [rng.integers(3, 390, n).tolist() for n in (1, 100, 9, 9, 12, 33, 8, 1)]
    items[3] = [*items[2][:3], *items[2][4:7], items[2][3], *items[2][7:]]
    labels = sorted(rng.choice(np.arange(3, 390), 8, replace=False).tolist())
    requests = [
        WorkloadRequest(id=f"q{i}", query_ids=ids, label_ids=labels, items_ids=items)
        for i, ids in enumerate((query, alike))
    ]
    return Workload(name="w", origin="tests", apply_softmax=True, tokenizer_sha256=None, requests=requests)


def run(names: Sequence[str], folder: Path) -> dict[str, Found]:
    """Measure and judge a run of JAX against scorers that lie, all on a workload that shows the first one's lie."""
    config = replace(load_model("random:tiny-llama").config, vocab_size=400, max_positions=1024)
    write_hf_folder(folder / "model", config, random_weights(config, 11), "float32")
    scored, view = (large(), "best_native") if names[0] in FORMS else (small(), "portable")
    lies = {f"lie_{[*ALL, SOUND].index(name)}_{view}": name for name in names}
    own = [f"tests.faults.real_runs:{lie}" for lie in lies]
    params = load_params(
        PARAMS,
        {
            "model": str(folder / "model"), "rounds": 2, "passes": 3, "controls": False,
            "backends": [{"backend": "jax", "views": ["best_native"]}, *({"backend": name} for name in own)],
            "comparisons": [{"jax": "cpu", name: "cpu"} for name in own],
            "chunk_sizes": [max(len(r.items_ids) for r in scored.requests)],
        },
    )  # fmt: skip
    store, wrong = RunStore(folder / "run"), folder / "wrong"
    wrong.mkdir()
    with (
        mock.patch.dict(os.environ, {WRONG: str(wrong)}),
        mock.patch("scorematrix.matrix.orchestrate.build_workload", lambda _: scored),
    ):
        remember_folder(ROOT)
        fill_run(params, store)
    comparison = compare_run(store.manifest(), store.workload(), store.readiness(), store.rounds())
    found = {}
    for contrast in comparison.contrasts:
        lie = contrast.second.backend.partition(":")[2]
        failed = [g.name.replace(f" {contrast.second.backend}", "") for g in contrast.gates if g.status == "failed"]
        n_wrong = (wrong / lie).stat().st_size if (wrong / lie).exists() else 0
        found[lies[lie]] = Found(contrast.verdict, failed, n_wrong)
    return found


def kinds() -> list[str]:
    """Return the first form of each kind of lie that the large workload shows; the first one if it shows none."""
    of_kind: dict[str, list[str]] = {}
    for name in ALL:
        of_kind.setdefault(name.partition(", form")[0], []).append(name)
    return [next((n for n in names if n in FORMS), names[0]) for names in of_kind.values()]


def main(words: str = "") -> None:
    """Run a form of every kind of lie whose name holds the words."""
    for is_shown in (True, False):
        asked = [name for name in kinds() if words in name and (name in FORMS) is is_shown]
        for start in range(0, len(asked), TOGETHER):
            with tempfile.TemporaryDirectory(prefix="lie-") as folder:
                found = run([*asked[start : start + TOGETHER], SOUND], Path(folder))
            for name, (verdict, failed, n_wrong) in found.items():
                line = {"lie": name, "verdict": verdict, "wrong answers": n_wrong, "failed": failed}
                with RESULTS.open("a") as out:
                    out.write(json.dumps(line) + "\n")
                gates = ", ".join(failed) or "no failed gate"
                print(f"{name}: {verdict}, {n_wrong} wrong answers, {gates}", flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
