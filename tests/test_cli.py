"""The command line as a user meets it: exit codes, one line per mistake, nothing written."""

from __future__ import annotations

import json
import re
from collections import Counter
from pathlib import Path

import pytest

import scorematrix
from scorematrix.compare import Comparison, compare_run
from scorematrix.matrix.meter import MOST_PROBE_PASSES
from scorematrix.models import Model
from scorematrix.results import RunStore, read_document
from tests.conftest import FIXTURES, call_cli, real_time, report_of, run_cli
from tests.factory import changed, equal_seconds, make_cell, make_params, write_run, write_valid_run

TINY = str(FIXTURES / "tiny.yaml")
# what is asked, and what the one line must name: the field, its value, the remedy
MISTAKES = {
    "no such file": (["run", "none.yaml"], "none.yaml"),
    "unknown key": (["run", TINY, "--set", "chunk_size=[4]"], "chunk_size=", "'chunk_sizes'"),
    "wrong type": (["run", TINY, "--set", "passes=many"], "passes='many'"),
    "missing model": (["run", TINY, "--set", "model=smollm2"], "model='smollm2'"),
    "model without tokenizer": (["run", TINY, "--set", "workload={kind: text, dataset: yes_no}"], "tokenizer"),
    "a single label": (["run", TINY, "--set", "workload.label_ids=[99]"], "label_ids", "99", "apply_softmax=false"),
    "labels beyond the vocabulary": (["run", TINY, "--set", "workload.label_ids=[999]"], "label_ids", "999"),
    "no such data set": (
        ["run", TINY, "--set", "model=smollm2-135m", "--set", "workload={kind: text, dataset: nope}"],
        "dataset='nope'"),
    "no readiness file": (["run", TINY, "--readiness", "none.yaml"], "readiness", "none.yaml"),
    "bad run id": (["run", TINY, "--run-id", "../up"], "run_id='../up'"),
    "unknown backend": (["run", TINY, "--only", "torch"], "--only='torch'"),
    "bound below the rounds": (["run", TINY, "--max-rounds", "2"], "max_rounds=2", "rounds=2"),
    "no value": (["run", TINY, "--set", "rounds"], "--set='rounds'", "key=value"),
    "unknown run": (["report", "nope"], "run='nope'"),
    "unknown option": (["run", TINY, "--fast"], "--fast"),
    "unknown target": (["preflight", "--target", "gpu"], "target='gpu'"),
    "long label": (["score", "--query", "q", "--item", "i", "--label", "yes or no"], "label='yes or no'"),
    "unknown view": (["score", "--query", "q", "--item", "i", "--label", " yes", "--view", "fast"], "view='fast'"),
    "compare with no run": (["report", "--compare", "nope", "new"], "run='new'"),
    "nothing to validate": (["validate", "none.json"], "none.json"),
    "beyond the model": (["score", "--query", "word " * 20_000, "--item", "i", "--label", " yes"], "8192 positions"),
    "not UTF-8": (["score", "--query", "\udcff", "--item", "i", "--label", " yes"], "UTF-8"),
    "no folder for an archive": (["bundle", "nope/x.tar.gz"], "path='nope/x.tar.gz'"),
}  # fmt: skip


@pytest.mark.parametrize("case", MISTAKES)
def test_mistakes_end_with_2_and_one_line(tmp_path: Path, case: str) -> None:
    arguments, *words = MISTAKES[case]
    done = call_cli(*arguments, cwd=tmp_path)
    assert done.returncode == 2, done.stdout + done.stderr
    assert all(word in done.stderr for word in words), done.stderr
    if case != "unknown option":  # usage comes with a hint at --help
        assert len(done.stderr.strip().splitlines()) == 1
    assert list(tmp_path.iterdir()) == [], "nothing is written"


@pytest.mark.parametrize("case", ["bad run id", "unknown option"])
def test_a_process_of_its_own_ends_the_same(tmp_path: Path, case: str) -> None:
    """The entry point itself: `python -m scorematrix`, its exit code and its stderr."""
    arguments, *words = MISTAKES[case]
    done = run_cli(*arguments, cwd=tmp_path)
    assert done.returncode == 2 and "Traceback" not in done.stderr, done.stderr
    last = call_cli(*arguments, cwd=tmp_path).stderr.splitlines()[-1]
    assert done.stderr.splitlines()[-1] == last and all(word in last for word in words)
    assert list(tmp_path.iterdir()) == [], "nothing is written"


def test_edited_workload_stops_a_run(tmp_path: Path) -> None:
    params = make_params(rounds=2)
    store = write_run(tmp_path / "outputs" / "runs" / "r", params=params)
    path = store.folder / "workload.json"
    path.write_text(path.read_text().replace("[10,0]", "[11,0]"))
    before = sorted(p.name for p in store.folder.rglob("*"))
    done = call_cli("run", TINY, "--run-id", "r", cwd=tmp_path)
    assert done.returncode == 2 and "workload.json" in done.stderr and "sha256" in done.stderr
    assert sorted(p.name for p in store.folder.rglob("*")) == before


def test_other_params_do_not_fill_the_same_folder(tmp_path: Path) -> None:
    write_run(tmp_path / "outputs" / "runs" / "r", params=make_params())
    done = call_cli("run", TINY, "--run-id", "r", "--set", "seed=99", cwd=tmp_path)
    assert done.returncode == 2 and "params_sha256" in done.stderr and "--run-id" in done.stderr


@pytest.mark.usefixtures("without_page")
def test_failed_gate_is_exit_3(tmp_path: Path) -> None:
    store = write_run(tmp_path / "outputs" / "runs" / "r")
    round_ = store.round("jax.portable.cpu.r02")
    cells = [make_cell(1.0, c.chunk_size, scores=[[[0.5, 0.5]] * 8] * 2).model_dump() for c in round_.cells]
    store.write_round(type(round_)(**(round_.model_dump(exclude={"sha256"}) | {"cells": cells})))
    done = call_cli("report", "r", cwd=tmp_path)
    assert done.returncode == 3
    comparison = read_document(store.folder / "comparison.json", Comparison)
    assert [c.verdict for c in comparison.contrasts if c.kind == "framework"] == ["invalid"]
    assert "JAX is" not in done.stdout and "PyTorch is" not in done.stdout


def line_of(text: str, name: str) -> str:
    """The first line that begins with a name."""
    return next(line for line in text.splitlines() if line.startswith(name))


def test_what_changed_is_printed_and_kept_beside_the_newer_run(tmp_path: Path) -> None:
    runs, wrong = tmp_path / "outputs" / "runs", [[[0.5, 0.5]] * 8] * 2
    write_run(runs / "before")
    slower = lambda backend, index, chunk: 1.25 * equal_seconds(backend, index, chunk)  # noqa: E731
    new = write_run(runs / "after", seconds=slower)
    done = call_cli("report", "--compare", "before", "after", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert all(word in done.stdout for word in ("PARTIAL", "SKIPPED GPU G4"))
    assert all(word in line_of(done.stdout, "jax portable on cpu") for word in ("SLOWER", "0.800"))
    kept = new.folder / "change_since_before.md"
    assert "SLOWER" in kept.read_text() and done.stdout.strip().endswith("runs/after/change_since_before.md")
    assert [p.name for p in (runs / "before").iterdir() if p.suffix in (".md", ".html")] == []

    round_ = new.round("jax.portable.cpu.r02")
    new.write_round(changed(round_, cells=[make_cell(1.0, c.chunk_size, scores=wrong) for c in round_.cells]))
    done = call_cli("report", "--compare", "before", "after", cwd=tmp_path)
    assert done.returncode == 3 and "INVALID" in line_of(done.stdout, "jax portable on cpu")
    assert "SLOWER" not in line_of(done.stdout, "jax portable on cpu") and "NEW: " in done.stdout

    write_run(runs / "other", params=make_params(rounds=6))
    done = call_cli("report", "--compare", "other", "after", cwd=tmp_path)
    assert done.returncode == 2 and "params.rounds=6" in done.stderr and "5" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


@pytest.mark.usefixtures("report_here")
def test_a_run_that_goes_on_gets_a_partial_report(tmp_path: Path) -> None:
    store = write_run(tmp_path / "outputs" / "runs" / "r", keep=lambda planned: planned.position < 4)
    with store.lock():
        done = call_cli("report", "r", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    n = len(store.rounds())
    assert 0 < n < 4 and f"PARTIAL: {n} " in done.stdout
    assert "<title>PARTIAL" in report_of(store.folder)


def test_nothing_to_run_is_exit_4(tmp_path: Path) -> None:
    elsewhere = "comparisons=[{jax: tpu-v5e-1, pytorch: gpu-l4}]"
    done = call_cli("run", TINY, "--set", elsewhere, cwd=tmp_path)
    assert done.returncode == 4
    assert "SKIPPED TPU v5e" in done.stdout and "SKIPPED GPU L4" in done.stdout


def test_score_prints_probabilities(smollm2: Model) -> None:
    query = "Is it a fruit?\nplum: yes\nchair: no\n"
    arguments = ["score", "--query", query, "--item", "apple:", "--item", "hammer:",
                 "--label", " yes", "--label", " no"]  # fmt: skip
    rows = {}
    for backend in ("jax", "pytorch"):
        done = call_cli(*arguments, "--backend", backend, "--dtype", "float32", "--json")
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout)["dtype"] == "float32"
        rows[backend] = json.loads(done.stdout)["scores"]
    apple, hammer = rows["jax"]
    assert apple[" yes"] > hammer[" yes"] and apple[" yes"] + apple[" no"] == pytest.approx(1, abs=1e-6)
    for one, other in zip(rows["jax"], rows["pytorch"], strict=True):
        assert one[" yes"] == pytest.approx(other[" yes"], abs=1e-4)


def test_preflight_says_what_is_ready() -> None:
    done = call_cli("preflight", TINY)
    assert done.returncode == 0
    assert "ready" in done.stdout and "no_device" in done.stdout and "G4" in done.stdout


def test_models_and_validate(tmp_path: Path) -> None:
    assert "smollm2-135m" in call_cli("models").stdout
    store = write_valid_run(tmp_path / "r")
    done = call_cli("validate", str(store.folder), str(store.folder / "workload.json"),
                   str(store.round_path("jax.portable.cpu.r01")), TINY)  # fmt: skip
    assert done.returncode == 0 and done.stdout.count("sound") == 4


@real_time  # the rounds are threads of this process and may delay the conductor's clock
@pytest.mark.slow
@pytest.mark.usefixtures("rounds_here")
def test_until_decided_goes_on_to_the_next_look_and_stops_there(tmp_path: Path) -> None:
    """Two rounds cannot decide, four cannot either: both looks are taken, and no more rounds than the bound."""
    run = ["run", str(FIXTURES / "numpy.yaml"), "--run-id", "r", "--until-decided", "--max-rounds", "4",
           "--set", "comparisons=[{numpy: cpu, numpy-per-item: cpu}]", "--set", "controls=true",
           "--set", "chunk_sizes=[1]"]  # fmt: skip
    done = call_cli(*run, cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    store = RunStore(tmp_path / "outputs" / "runs" / "r")
    roles = Counter(r.role for r in store.rounds())
    assert roles == {"reference": 1, "tuning": 2, "confirm": 8, "control": 4}
    assert "COMPLETE: 15" in done.stdout
    for round_ in store.rounds():
        if round_.role == "control":
            assert {c.slowdown for c in round_.cells} == {1.0, 1.05}
        if round_.role == "tuning":
            assert round_.probes.neighbours_moved < 1e-5 and 2 <= len(round_.probes.fresh_ns) <= MOST_PROBE_PASSES
        if round_.role != "reference":
            assert round_.noise.seconds > 0 and round_.noise.others_share is not None
    assert any(cell.repeats > 1 for r in store.rounds() for cell in r.cells), (
        "calls of a millisecond are timed together"
    )
    comparison = compare_run(store.manifest(), store.workload(), store.readiness(), store.rounds())
    assert [c.verdict for c in comparison.contrasts] == ["not_enough_evidence"]
    for side in comparison.sides:
        assert all(cell.mfu > 0 for cell in side.chunks)


def test_help_is_not_cut_off_and_begins_with_what_is_needed_most() -> None:
    done = call_cli("--help")
    listed = [line.split(maxsplit=1) for line in done.stdout.splitlines() if re.match(r"  [a-z]+ {2,}\S", line)]
    assert [name for name, _ in listed[:3]] == ["run", "report", "score"] and len(listed) == 13
    assert not [words for _, words in listed if words.endswith("...")]


def test_the_version_is_told() -> None:
    assert call_cli("--version").stdout.split() == ["scorematrix", scorematrix.__version__]
