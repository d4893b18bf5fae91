"""The PyTorch engine over a mesh of processes gives the scores of one; a rank that dies or stalls is told of."""

from __future__ import annotations

import dataclasses
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator

import numpy as np
import psutil
import pytest
import torch

from scorematrix import ScoreRequest
from scorematrix.models import Model, load_model
from scorematrix.models.random_weights import RANDOM_SHAPES, random_weights
from scorematrix.scoring.mesh import Mesh
from scorematrix.scoring.pytorch.best_native import BestNativeBackend
from scorematrix.scoring.pytorch.sharded import ShardedBackend
from tests.processes import running

pytestmark = pytest.mark.slow
RAGGED = [5, 40, 1, 9, 9, 9, 3, 70, 2, 33, 6]
rng = np.random.default_rng(5)


@pytest.fixture(scope="module")
def model() -> Model:
    """Eight query heads on two key/value heads: fewer than four shards."""
    config = dataclasses.replace(RANDOM_SHAPES["tiny-qwen3"], n_heads=8, n_kv_heads=2)
    return Model("made up", "seed 3", config, None, random_weights(config, 3))


UNCOMPILED_RANK = """
import runpy, torch
torch.compiler.set_stance("force_eager")
runpy.run_module("scorematrix.scoring.pytorch.rank", run_name="__main__")
"""


@pytest.fixture(autouse=True)
def uncompiled(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """On all meshes but one: how a model is split does not depend on it, and four ranks compile for a minute."""
    if "[model=2]" in request.node.name:
        request.getfixturevalue("inductor")
        yield
        return
    monkeypatch.setattr("scorematrix.scoring.pytorch.sharded.RANK", [sys.executable, "-c", UNCOMPILED_RANK])
    with torch.compiler.set_stance("force_eager"):
        yield


def request_of(lengths: list[int], apply_softmax: bool = True) -> ScoreRequest:
    items = [rng.integers(0, 256, n).tolist() for n in lengths]
    return ScoreRequest(rng.integers(0, 256, 50).tolist(), items, [3, 200], apply_softmax)


def ranks() -> list[psutil.Process]:
    """The other ranks that live, in their order."""
    return running("scorematrix.scoring.pytorch.rank", under=os.getpid())


@pytest.mark.chaos
@pytest.mark.parametrize("mesh", ["model=2", "data=2,model=2", "model=4"])
def test_sharded_scores_are_those_of_one_process(mesh: str, model: Model) -> None:
    one = BestNativeBackend(model, device="cpu", dtype="float32")
    many = ShardedBackend(model, mesh=Mesh.parse(mesh), device="cpu", dtype="float32")
    try:
        assert len(ranks()) == Mesh.parse(mesh).size - 1
        assert many.info.settings["mesh"] == str(Mesh.parse(mesh)) and many.info.view == "best_native"
        assert many._rank._layers[0].q_ldnh.shape[1] * Mesh.parse(mesh).model == model.config.n_heads
        requests = [request_of(RAGGED), request_of(RAGGED, apply_softmax=False), request_of([7])]
        many.prepare(requests)
        n_programs = len(many.compile_events)
        for request in requests:  # the last has fewer items than replicas
            expected, found = one.score(request), many.score(request)
            assert found.dtype == np.float32 and found.shape == expected.shape
            # Probabilities over the vocabulary are small; their own size counts.
            assert np.abs(found / expected - 1).max() * expected.max() <= 2e-5
        assert len(many.compile_events) == n_programs, "prepare made every graph, on every rank"
    finally:
        many.close()
    assert ranks() == [], "no process is left"


@pytest.mark.chaos
@pytest.mark.parametrize("name", ["tiny-llama", "tiny-qwen2"])
def test_a_head_of_its_own_biases_steps_and_kept_queries(name: str) -> None:
    """In bfloat16, whose products are rounded: nearer to itself on one process than any rank's own rounding."""
    model, request = load_model(f"random:{name}", seed=11), request_of(RAGGED)
    one = BestNativeBackend(model, device="cpu", dtype="bfloat16").score(request)
    many = ShardedBackend(
        model, mesh=Mesh(model=2), device="cpu", dtype="bfloat16", step_tokens=40, reuse_prefix=1, stall_seconds=120
    )
    try:
        many.prepare([request])
        first, again = many.score(request), many.score(request)
        assert np.abs(first - one).max() <= 2e-2 and np.abs(again - first).max() <= 2e-2
    finally:
        many.close()


@pytest.mark.chaos
def test_bad_requests_break_nothing_and_a_second_mesh_is_refused(model: Model) -> None:
    many = ShardedBackend(model, mesh=Mesh(data=2), device="cpu", dtype="float32")
    try:
        with pytest.raises(ValueError, match="token id 256"):
            many.score(ScoreRequest([256], [[1]], [3]))
        with pytest.raises(ValueError, match="torch.distributed group of 2"):
            ShardedBackend(model, mesh=Mesh(data=2), device="cpu", dtype="float32")
        assert many.score(request_of([3, 4])).shape == (2, 2)
    finally:
        many.close()
    with pytest.raises(RuntimeError, match="closed"):
        many.score(request_of([3]))


@pytest.mark.chaos
def test_a_dead_rank_is_named_at_once(model: Model) -> None:
    many = ShardedBackend(model, mesh=Mesh(model=2), device="cpu", dtype="float32")
    many.score(request_of(RAGGED))
    (other,) = ranks()
    other.send_signal(signal.SIGKILL)
    start = time.monotonic()
    with pytest.raises(RuntimeError, match="rank 1 .*'data=1,model=2'.*code -9"):
        many.score(request_of(RAGGED))
    assert time.monotonic() - start < 20
    with pytest.raises(RuntimeError, match="rank 1 "):
        many.score(request_of(RAGGED))


@pytest.mark.chaos
def test_a_rank_that_stalls_ends_the_call(model: Model) -> None:
    many = ShardedBackend(model, mesh=Mesh(data=2), device="cpu", dtype="float32", stall_seconds=30)
    many.score(request_of(RAGGED))
    (other,) = ranks()
    other.suspend()
    with pytest.raises(RuntimeError, match="[Tt]ime"):
        many.score(request_of(RAGGED))
    assert ranks() == [] and not psutil.pid_exists(other.pid)


@pytest.mark.chaos
def test_ranks_end_with_the_first_process() -> None:
    """Killed, it can end nobody: each sees for itself that no order will come."""
    program = (
        "import os, signal\nfrom scorematrix import load_backend\n"
        "how = dict(view='best_native', model='random:tiny-qwen3', device='cpu', mesh='data=2')\n"
        "backend = load_backend('pytorch', **how)\n"
        "import psutil\nprint(*(child.pid for child in psutil.Process().children()), flush=True)\n"
        "os.kill(os.getpid(), signal.SIGKILL)"
    )
    done = subprocess.run([sys.executable, "-c", program], env=os.environ, capture_output=True, text=True, timeout=120)
    assert done.returncode == -signal.SIGKILL, done.stderr
    pids = [int(pid) for pid in done.stdout.split()]
    assert pids
    until = time.monotonic() + 30
    while any(map(psutil.pid_exists, pids)) and time.monotonic() < until:
        time.sleep(0.2)
    assert not any(map(psutil.pid_exists, pids))
