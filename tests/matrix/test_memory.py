"""What a call needs on an accelerator, against what a compiler laid out; and that a cell that cannot fit is refused."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from scorematrix.matrix.memory import best_native_need, call_tokens, portable_need, refuse_oversized, refused_chunks
from scorematrix.matrix.workloads import build_workload
from scorematrix.models import read_description
from scorematrix.readiness import target
from scorematrix.results import PlannedRound
from scorematrix.workload import ScoreRequest
from tests.conftest import environment_of_users
from tests.factory import make_params, make_workload, write_run

QWEN3 = read_description("random:qwen3-0.6b").config
CONTRACT = {"kind": "canonical", "query_tokens": 2000, "n_items": 500, "item_tokens": 20, "label_ids": [1, 2]}
STEP_TOKENS = 37_888


def call_of(n_items: int, n_query: int = 2000, apply_softmax: bool = True) -> ScoreRequest:
    return ScoreRequest((1,) * n_query, ((1,) * 20,) * n_items, (1, 2), apply_softmax)


def planned_on(where: str, backend: str = "pytorch", view: str = "portable") -> PlannedRound:
    return PlannedRound(index=1, role="confirm", backend=backend, view=view, target=where, position=1)


@pytest.mark.parametrize(
    ("view", "n_items", "laid_out"),
    # Temporaries of XLA's compiler for a v6e, libtpu 0.0.42.1, bfloat16.
    [("portable", 32, 1_047_584_992), ("best_native", 500, 318_796_416)],
)
def test_an_estimate_is_not_below_what_the_compiler_lays_out(view: str, n_items: int, laid_out: int) -> None:
    call = call_of(n_items)
    need = (
        portable_need(QWEN3, "bfloat16", "jax", call)
        if view == "portable"
        else best_native_need(QWEN3, "bfloat16", call, STEP_TOKENS)
    )
    assert laid_out <= need.activations + need.scores <= 4 * laid_out
    assert need.weights == 2 * QWEN3.n_params and need.total == sum(vars(need).values())


def test_what_a_need_grows_with() -> None:
    small, large = (portable_need(QWEN3, "bfloat16", "jax", call_of(n, n_query=2048 - 20)) for n in (1, 103))
    assert large.scores == 4 * small.scores, "twice the tokens, four times the scores"
    assert portable_need(QWEN3, "bfloat16", "pytorch", call_of(1)).scores == 10 / 8 * small.scores
    at_once, in_steps, kept = (
        best_native_need(QWEN3, "bfloat16", call_of(500), *limits) for limits in [(STEP_TOKENS,), (512,), (512, 3)]
    )
    assert in_steps.activations < at_once.activations, "a step's items only"
    one_query = 2 * 2 * 28 * 2016 * 8 * 128  # keys and values, bfloat16, layers, padded query, heads, their size
    assert (at_once.keys, in_steps.keys, kept.keys) == (0, one_query, 4 * one_query)
    assert at_once.logits == 0, "the labels' logits only"
    whole = best_native_need(QWEN3, "bfloat16", call_of(500, apply_softmax=False), STEP_TOKENS)
    assert whole.logits == 4 * 8192 * (1024 + 500)


@pytest.mark.parametrize(
    ("where", "backend", "view", "words"),
    [
        ("gpu-l4", "pytorch", "portable", ["GPU L4", "24.00 GB", "26.46 GB", "scores 24.16", "at most 256"]),
        ("gpu-l4", "jax", "portable", None),  # XLA needs one copy of the scores fewer
        ("tpu-v5e-1", "jax", "portable", ["TPU v5e", "17.18 GB", "at most 256"]),
        ("tpu-v5e-1", "jax", "best_native", None),
        ("gpu-l4", "transformers", "per_item", None),
        ("cpu", "pytorch", "portable", None),
    ],
)
def test_only_a_cell_that_cannot_fit_is_refused(where: str, backend: str, view: str, words: list[str] | None) -> None:
    params = make_params(
        model="random:qwen3-0.6b", dtype="bfloat16", workload=CONTRACT, chunk_sizes=[32, 256, 500],
        comparisons=[{backend: "cpu", "numpy": "cpu"}],
        backends=[{"backend": backend, "views": [view]}, {"backend": "numpy"}],
    )  # fmt: skip
    found = refused_chunks(params, planned_on(where, backend, view), build_workload(params))
    assert list(found) == ([500] if words else [])
    for line in found.values():
        assert line.startswith(f"{backend} {view} at chunk size 500 needs about") and "\n" not in line
        assert all(word in line for word in words or []), line


def test_where_no_chunk_size_fits_the_remedy_is_another() -> None:
    """One query of 40,900 tokens: a dense mask over it fits no GPU, and a smaller chunk would not help."""
    shape = CONTRACT | {"query_tokens": 40_900, "n_items": 2}
    params = make_params(model="random:qwen3-0.6b", dtype="bfloat16", workload=shape, chunk_sizes=[1, 2])
    found = refused_chunks(params, planned_on("gpu-h200"), build_workload(params))
    assert sorted(found) == [1, 2] and all("or view best_native" in line for line in found.values())


def test_a_device_of_a_tpu7x_has_half_of_the_chips_memory() -> None:
    where = target("tpu-7x-1")
    assert (where.n_chips, where.n_devices, where.mesh) == (1, 2, "data=2")
    assert where.device_bytes == 96 << 30 and where.datasheet == where.chip
    assert target("tpu-v6e-4").n_devices == 4 and target("tpu-v6e-4").device_bytes == 32 << 30


ROUND = """
import dataclasses, sys
from scorematrix.matrix import memory
from scorematrix.matrix.round import run_round
from scorematrix.results import Datasheet, PlannedRound

rates = {"bfloat16_flops_per_second": 1, "memory_bytes_per_second": 1}
sheet = Datasheet(memory_bytes=int(sys.argv[2]), **rates, source="", date="")
known = memory.target
memory.target = lambda name: dataclasses.replace(known(name), label="a small chip", chip=sheet)
planned = PlannedRound(index=1, role="confirm", backend="pytorch", view="portable", target="cpu", position=1)
print(run_round(sys.argv[1], planned).model_dump_json())
"""


@pytest.mark.parametrize("fits", [[2], []])
def test_a_round_measures_what_fits_and_refuses_the_rest(fits: list[int], tmp_path: Path) -> None:
    store = write_run(tmp_path / "run", params=make_params(rounds=2, chunk_sizes=[2, 8], passes=1))
    store.drop_round("pytorch.portable.cpu.r01")
    config, (call, *_) = read_description("random:tiny-llama").config, make_workload().calls(8)[0]
    need = portable_need(config, "float32", "pytorch", call).total
    limit = need - 1 if fits else 1000
    command = [sys.executable, "-c", ROUND, str(store.folder), str(limit)]
    done = subprocess.run(command, env=environment_of_users(), capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    round_ = json.loads(done.stdout.splitlines()[-1])
    cells = {cell["chunk_size"]: cell for cell in round_["cells"]}
    assert [size for size, cell in cells.items() if cell["status"] == "ok"] == fits
    assert "a small chip" in cells[8]["error"] and "needs about" in cells[8]["error"]
    assert (round_["error"] is None, round_["setup"] is None) == (bool(fits), not fits), "nothing is loaded in vain"


@pytest.mark.parametrize("view", ["portable", "best_native"])
def test_the_tokens_of_a_call_are_those_that_the_memory_allows(view: str) -> None:
    allowed = {gib: call_tokens(QWEN3, view, "float32", "jax", gib * 2**30, 10**6) for gib in (4, 16)}
    assert 1000 < allowed[4] < allowed[16] < 10**6
    for more, fits in ((0, True), (1000, False)):
        call = call_of(1, allowed[4] - 20 + more, apply_softmax=False)
        need = portable_need(QWEN3, "float32", "jax", call)
        assert view != "portable" or (need.total - need.weights <= 4 * 2**30) == fits
    assert call_tokens(QWEN3, view, "float32", "jax", 16 * 2**30, 4000) == 4000
    with pytest.raises(ValueError, match="max_memory"):
        call_tokens(QWEN3, view, "float32", "jax", 2**20, 4000)


def test_a_call_on_a_cpu_that_does_not_fit_is_refused_before_it_runs() -> None:
    refuse_oversized(QWEN3, "portable", "float32", "jax", call_of(1, 100))
    with pytest.raises(ValueError, match=r"200020 tokens.*best_native"):
        refuse_oversized(QWEN3, "portable", "float32", "jax", call_of(1, 200_000))
