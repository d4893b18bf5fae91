"""What is on disk is whole, sealed, and refused when it is not."""

from __future__ import annotations

import json
import math
import multiprocessing
import shutil
import time
from pathlib import Path

import pytest

from scorematrix.compare import compare_run
from scorematrix.results import Round, RunInUse, RunStore, find_run, read_document
from scorematrix.results.files import write_text
from scorematrix.workload import Workload
from tests.factory import changed, write_run

FIXTURES = Path(__file__).parents[1] / "fixtures"


@pytest.fixture
def store(tmp_path: Path) -> RunStore:
    return write_run(tmp_path / "run")


def test_what_is_written_is_read(store: RunStore) -> None:
    rounds = store.rounds()
    assert len(rounds) == 18
    assert rounds[0].role == "reference"
    assert store.workload().sha256 == store.manifest().workload_sha256


def test_nan_survives(store: RunStore) -> None:
    round_ = store.rounds()[1]
    cell = round_.cells[0].model_dump() | {"scores": [[[math.nan, math.inf]]], "pass_deviation": math.nan}
    store.write_round(changed(round_, cells=[cell]))
    text = store.round_path(round_.name).read_text()
    json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} is not plain JSON"))
    back = store.round(round_.name).cells[0]
    assert math.isnan(back.scores[0][0][0]) and math.isinf(back.scores[0][0][1]) and math.isnan(back.pass_deviation)


def damaged_files(path: Path) -> dict[str, tuple[str, str]]:
    text = path.read_text()
    content = json.loads(text)
    return {
        "truncated": (text[: len(text) // 2], "JSON"),
        "empty": ("", "JSON"),
        "edited": (text.replace('"backend":"jax"', '"backend":"pytorch"'), "sha256="),
        "faster": (json.dumps(content | {"cells": [c | {"call_ns": [[[1]]]} for c in content["cells"]]}), "sha256="),
        "no checksum": (json.dumps({k: v for k, v in content.items() if k != "sha256"}), "sha256 is missing"),
        "empty checksum": (json.dumps(content | {"sha256": ""}), "sha256 is missing"),
        "newer": (json.dumps(content | {"schema_version": 99}), "schema_version=99"),
        "unknown key": (json.dumps(content | {"extra": 1}), "extra"),
        "wrong type": (json.dumps(content | {"cells": 3}), "cells"),
    }


@pytest.mark.parametrize(
    "damage",
    [
        "truncated",
        "empty",
        "edited",
        "faster",
        "no checksum",
        "empty checksum",
        "newer",
        "unknown key",
        "wrong type",
    ],
)
def test_damaged_round_is_refused(store: RunStore, damage: str) -> None:
    path = store.round_path("jax.portable.cpu.r01")
    text, words = damaged_files(path)[damage]
    path.write_text(text)
    with pytest.raises(ValueError, match=words) as error:
        store.rounds()
    assert path.name in str(error.value)


def test_edited_workload_is_refused(store: RunStore) -> None:
    path = store.folder / "workload.json"
    path.write_text(path.read_text().replace("[10,0]", "[11,0]"))
    with pytest.raises(ValueError, match="sha256="):
        store.workload()


def test_round_of_another_run_is_refused(store: RunStore) -> None:
    store.write_round(changed(store.round("jax.portable.cpu.r01"), workload_sha256="f" * 64))
    with pytest.raises(ValueError, match=r"workload_sha256=ffffffffffff"):
        store.rounds()


def test_every_schema_version_keeps_loading() -> None:
    """One round file per version that was ever written."""
    for version in (1, 2, 3, 4):
        round_ = read_document(FIXTURES / f"round_v{version}.json", Round)
        assert (round_.schema_version, round_.backend) == (version, "jax")
    assert read_document(FIXTURES / "round_v2.json", Round).probes is not None
    assert read_document(FIXTURES / "round_v3.json", Round).profile is not None
    assert read_document(FIXTURES / "round_v4.json", Round).cells[0].turns
    assert read_document(FIXTURES / "workload_v1.json", Workload).n_items == 16


def test_a_run_of_version_1_is_still_judged() -> None:
    """Recorded by version 1 on a real machine, its portable rounds taken out: gates and verdict as they were."""
    store = RunStore(FIXTURES / "run_v1")
    comparison = compare_run(store.manifest(), store.workload(), store.readiness(), store.rounds())
    verdicts = {c.view: c.verdict for c in comparison.contrasts if c.kind == "framework"}
    assert verdicts == {"portable": "not_enough_evidence", "best_native": "jax"}
    assert [w for w in comparison.warnings if "control" in w] and comparison.controls == []


@pytest.mark.parametrize(
    ("name", "newest"), [("run.json", 2), ("readiness.json", 2), ("rounds/jax.best_native.cpu.r01.json", 4)]
)
def test_a_newer_file_is_refused_with_a_sentence(tmp_path: Path, name: str, newest: int) -> None:
    shutil.copytree(FIXTURES / "run_v1", tmp_path / "run")
    path = tmp_path / "run" / name
    path.write_text(json.dumps(json.loads(path.read_text()) | {"schema_version": newest + 1}))
    store = RunStore(tmp_path / "run")
    with pytest.raises(ValueError, match=rf"schema_version={newest + 1} .*{newest}.*upgrade"):
        store.manifest(), store.readiness(), store.rounds()


def test_failed_write_leaves_nothing(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    write_text(path, "whole")
    with pytest.raises(UnicodeEncodeError):
        write_text(path, "broken \ud800")
    assert path.read_text() == "whole"
    assert [p.name for p in tmp_path.iterdir()] == ["a.json"]


def _hold(folder: str, ready) -> None:
    with RunStore(folder).lock():
        ready.set()
        time.sleep(60)


def test_only_one_process_fills_a_run(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    ready = context.Event()
    holder = context.Process(target=_hold, args=(str(tmp_path / "run"), ready))
    holder.start()
    try:
        assert ready.wait(60)
        with pytest.raises(RunInUse, match="process"), RunStore(tmp_path / "run").lock():
            pass
    finally:
        holder.kill()
        holder.join()
    with RunStore(tmp_path / "run").lock():
        pass  # the lock of a killed process is free


def test_unknown_run_names_the_known_ones(tmp_path: Path) -> None:
    write_run(tmp_path / "runs" / "known-1")
    with pytest.raises(ValueError, match=r"'nope'.*known-1"):
        find_run("nope", tmp_path)
    assert find_run("known-1", tmp_path).folder == tmp_path / "runs" / "known-1"
