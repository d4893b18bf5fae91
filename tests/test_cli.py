"""The command line as a user meets it: exit codes, one line per mistake, nothing written."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from scorematrix.models import Model
from tests.conftest import FIXTURES, run_cli
from tests.factory import make_cell, make_params, write_run

TINY = str(FIXTURES / "tiny.yaml")
MISTAKES = {
    "no such file": (["run", "none.yaml"], "none.yaml does not exist"),
    "unknown key": (["run", TINY, "--set", "chunk_size=[4]"], "did you mean 'chunk_sizes'"),
    "wrong type": (["run", TINY, "--set", "passes=many"], "passes='many'"),
    "missing model": (["run", TINY, "--set", "model=smollm2"], "model='smollm2'"),
    "model without tokenizer": (
        ["run", TINY, "--set", "workload={kind: text, dataset: yes_no}"], "needs a tokenizer"),
    "labels beyond the vocabulary": (["run", TINY, "--set", "workload.label_ids=[999]"], "label_ids holds 999"),
    "no such data set": (
        ["run", TINY, "--set", "model=smollm2-135m", "--set", "workload={kind: text, dataset: nope}"],
        "dataset='nope'"),
    "bad run id": (["run", TINY, "--run-id", "../up"], "run_id='../up'"),
    "unknown backend": (["run", TINY, "--only", "torch"], "--only='torch'"),
    "no value": (["run", TINY, "--set", "rounds"], "--set='rounds' must be key=value"),
    "unknown run": (["report", "nope"], "run='nope'"),
    "unknown option": (["run", TINY, "--fast"], "No such option"),
    "unknown target": (["preflight", "--target", "gpu"], "target='gpu' is unknown"),
    "long label": (["score", "--query", "q", "--item", "i", "--label", "yes or no"], "label='yes or no'"),
    "unknown view": (["score", "--query", "q", "--item", "i", "--label", " yes", "--view", "fast"], "view='fast'"),
    "nothing to validate": (["validate", "none.json"], "none.json cannot be read"),
}  # fmt: skip


@pytest.mark.parametrize("case", MISTAKES)
def test_mistakes_end_with_2_and_one_line(tmp_path: Path, case: str) -> None:
    arguments, words = MISTAKES[case]
    done = run_cli(*arguments, cwd=tmp_path)
    assert done.returncode == 2, done.stdout + done.stderr
    assert words in done.stderr and "Traceback" not in done.stderr
    if case != "unknown option":  # usage comes with a hint at --help
        assert len(done.stderr.strip().splitlines()) == 1
    assert list(tmp_path.iterdir()) == [], "nothing is written"


def test_edited_workload_stops_a_run(tmp_path: Path) -> None:
    params = make_params(rounds=2)
    store = write_run(tmp_path / "outputs" / "runs" / "r", params=params)
    path = store.folder / "workload.json"
    path.write_text(path.read_text().replace("[10,0]", "[11,0]"))
    before = sorted(p.name for p in store.folder.rglob("*"))
    done = run_cli("run", TINY, "--run-id", "r", cwd=tmp_path)
    assert done.returncode == 2 and "workload.json" in done.stderr and "does not match the content" in done.stderr
    assert sorted(p.name for p in store.folder.rglob("*")) == before


def test_other_params_do_not_fill_the_same_folder(tmp_path: Path) -> None:
    write_run(tmp_path / "outputs" / "runs" / "r", params=make_params())
    done = run_cli("run", TINY, "--run-id", "r", "--set", "seed=99", cwd=tmp_path)
    assert done.returncode == 2 and "choose another --run-id" in done.stderr


def test_failed_gate_is_exit_3(tmp_path: Path) -> None:
    store = write_run(tmp_path / "outputs" / "runs" / "r")
    round_ = store.round("jax.portable.cpu.r02")
    cells = [make_cell(1.0, c.chunk_size, scores=[[[0.5, 0.5]] * 8] * 2).model_dump() for c in round_.cells]
    store.write_round(type(round_)(**(round_.model_dump(exclude={"sha256"}) | {"cells": cells})))
    done = run_cli("report", "r", cwd=tmp_path)
    assert done.returncode == 3 and "invalid, no winner is named" in done.stdout


def test_nothing_to_run_is_exit_4(tmp_path: Path) -> None:
    elsewhere = "comparisons=[{jax: tpu-v5e-1, pytorch: gpu-l4}]"
    done = run_cli("run", TINY, "--set", elsewhere, cwd=tmp_path)
    assert done.returncode == 4
    assert "SKIPPED TPU v5e" in done.stdout and "SKIPPED GPU L4" in done.stdout


def test_score_prints_probabilities(smollm2: Model) -> None:
    query = "Is it a fruit?\nplum: yes\nchair: no\n"
    arguments = [
        "score",
        "--query",
        query,
        "--item",
        "apple:",
        "--item",
        "hammer:",
        "--label",
        " yes",
        "--label",
        " no",
    ]
    rows = {}
    for backend in ("jax", "pytorch"):
        done = run_cli(*arguments, "--backend", backend, "--dtype", "float32", "--json")
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout)["dtype"] == "float32"
        rows[backend] = json.loads(done.stdout)["scores"]
    apple, hammer = rows["jax"]
    assert apple[" yes"] > hammer[" yes"] and apple[" yes"] + apple[" no"] == pytest.approx(1, abs=1e-6)
    for one, other in zip(rows["jax"], rows["pytorch"]):
        assert one[" yes"] == pytest.approx(other[" yes"], abs=1e-4)


def test_preflight_says_what_is_ready() -> None:
    done = run_cli("preflight", TINY)
    assert done.returncode == 0
    assert "ready" in done.stdout and "no_device" in done.stdout and "Next: create a G4 VM" in done.stdout


def test_models_and_validate(tmp_path: Path) -> None:
    assert "smollm2-135m" in run_cli("models").stdout
    store = write_run(tmp_path / "r")
    done = run_cli("validate", str(store.folder), str(store.folder / "workload.json"),
                   str(store.round_path("jax.portable.cpu.r01")), TINY)  # fmt: skip
    assert done.returncode == 0 and done.stdout.count("sound") == 4
