"""Workers in other environments: their answers, their errors, their deaths; and the real ones where they are built."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import numpy as np
import pytest

from scorematrix import ScoreRequest, load_backend
from scorematrix.models import Model
from scorematrix.scoring import BACKENDS
from scorematrix.scoring.peers import process
from scorematrix.scoring.registry import missing_environment
from scorematrix.workload import text_workload
from tests.parity.reference import hf_smollm2, reference_scores

WORKER = """
import os, sys
from loop import serve

def load(options):
    print("libraries chat on standard output")
    return options["value"], {"fake": "1.0"}

def score(value, request):
    if request["query_ids"] == [13]:
        raise ValueError("thirteen")
    if request["query_ids"] == [99]:
        sys.stderr.write("out of memory")
        os._exit(9)
    return [[value, len(ids)] for ids in request["items_ids"]]

serve(load, score)
"""


@pytest.fixture
def worker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> process.PeerProcess:
    shutil.copy(process.WORKERS / "loop.py", tmp_path)
    (tmp_path / "fake.py").write_text(WORKER)
    monkeypatch.setattr(process, "WORKERS", tmp_path)
    monkeypatch.setattr(process, "peer_python", lambda environment: Path(sys.executable))
    return process.PeerProcess("any", "fake.py", {"value": 7.0})


def test_answers_come_back_as_float32(worker: process.PeerProcess) -> None:
    scores = worker.score(ScoreRequest([1], [[2], [3, 4]], [5, 6]))
    assert worker.info == {"fake": "1.0"} and scores.dtype == np.float32
    assert scores.tolist() == [[7.0, 1.0], [7.0, 2.0]]


def test_an_error_is_told_and_the_worker_lives_on(worker: process.PeerProcess) -> None:
    with pytest.raises(RuntimeError, match="ValueError: thirteen"):
        worker.score(ScoreRequest([13], [[2]], [5, 6]))
    assert worker.score(ScoreRequest([1], [[2]], [5, 6])).shape == (1, 2)


def test_a_death_is_told_with_the_last_words(worker: process.PeerProcess) -> None:
    with pytest.raises(RuntimeError, match="(?s)code 9.*out of memory"):
        worker.score(ScoreRequest([99], [[2]], [5, 6]))


# llama.cpp keeps parts of a float32 model's arithmetic in float16; what it gives is recorded beside its times.
CAPS = {"llama-cpp": 5e-3, "vllm-cpu": 1e-4}


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name, entry in BACKENDS.items() if entry.environment])
@pytest.mark.usefixtures("inductor")  # a peer compiles as it does for users
def test_real_peers_score_the_shipped_text(name: str, smollm2: Model) -> None:
    if environment := missing_environment(name):
        with pytest.raises(ModuleNotFoundError, match="make peers"):
            load_backend(name, view=next(iter(BACKENDS[name].views)), model=smollm2)
        pytest.skip(f"the environment {environment} is not built here; `make peers` builds it")
    (request,) = text_workload("yes_no", smollm2.tokenizer, n_queries=1, items_per_query=6).score_requests()
    backend = load_backend(name, view=next(iter(BACKENDS[name].views)), model=smollm2, dtype="float32")
    assert np.abs(backend.score(request) - reference_scores(hf_smollm2(), request)).max() <= CAPS[name]
