"""Files that are damaged, hostile or of another kind: one clear line, and nothing hangs."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from scorematrix.matrix import load_params, validate_path
from scorematrix.results import Manifest, read_document
from scorematrix.workload.datasets import read_examples
from tests.factory import write_run

DEEP = 100_000
BOMB = "a: &a [x, x]\nb: &b [*a, *a]\nc: [*b, *b]\n"
MADE: dict[str, tuple[Callable[[Path], object], str]] = {
    # kind: (how it is made, what the message says)
    "missing": (lambda path: None, "does not exist"),
    "folder": (lambda path: path.mkdir(), "not a regular file"),
    "FIFO": (os.mkfifo, "not a regular file"),
    "device": (lambda path: path.symlink_to("/dev/zero"), "not a regular file"),
    "symlink loop": (lambda path: path.symlink_to(path), "cannot be read"),
    "bytes": (lambda path: path.write_bytes(b"\xff\xfe{}"), "not UTF-8"),
}
JSON = MADE | {
    "deep": (lambda path: path.write_text("[" * DEEP), "nested too deeply"),
    "digits": (lambda path: path.write_text(f'{{"schema_version": {"9" * 5000}}}'), "not a complete JSON file"),
    "cut off": (lambda path: path.write_text('{"run_id": "r'), "not a complete JSON file"),
    "list": (lambda path: path.write_text("[1, 2]"), "list, not an object"),
}
YAML = MADE | {
    "deep": (lambda path: path.write_text("[" * DEEP), "nested too deeply"),
    "aliases": (lambda path: path.write_text(BOMB), "aliases"),
    "twice": (lambda path: path.write_text("name: a\nrounds: 5\nname: b\n"), "'name' occurs twice"),
}


def refused(kinds: dict, kind: str, path: Path, read: Callable[[Path], object]) -> None:
    make, message = kinds[kind]
    make(path)
    with pytest.raises(ValueError, match=message) as caught:
        read(path)
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("kind", JSON)
def test_json(kind: str, tmp_path: Path) -> None:
    refused(JSON, kind, tmp_path / "run.json", lambda path: read_document(path, Manifest))


@pytest.mark.parametrize("kind", YAML)
def test_yaml(kind: str, tmp_path: Path) -> None:
    refused(YAML, kind, tmp_path / "p.yaml", load_params)


@pytest.mark.parametrize("kind", [kind for kind in MADE if kind != "missing"])
def test_data_sets(kind: str, tmp_path: Path) -> None:
    refused(MADE, kind, tmp_path / "d.jsonl", lambda path: read_examples(str(path)))


def test_more_than_a_data_set_has_is_refused(tmp_path: Path) -> None:
    base = {"workload": {"kind": "text", "dataset": "yes_no", "n_queries": 1, "items_per_query": 8}}
    quick = Path(__file__).parents[1] / "params" / "quick.yaml"
    from scorematrix.matrix.workloads import build_workload

    for change, message in (
        ({"items_per_query": 99999}, "items_per_query=99999"),
        ({"n_queries": 999}, "n_queries=999"),
    ):
        params = load_params(quick, {"workload": base["workload"] | change})
        with pytest.raises(ValueError, match=message):
            build_workload(params)


@pytest.mark.parametrize("how", ["copied", "renamed", "foreign", "a file"])
def test_a_round_is_its_name_and_of_the_plan(how: str, tmp_path: Path) -> None:
    store = write_run(tmp_path / "r")
    path = store.round_path("jax.portable.cpu.r01")
    if how == "copied":
        path.with_name("jax.portable.cpu.r02.json").write_bytes(path.read_bytes())
        message = "r02.json contains round jax.portable.cpu.r01"
    elif how == "renamed":
        path.rename(path.with_name("x.json"))
        message = "x.json contains round jax.portable.cpu.r01"
    elif how == "foreign":
        manifest = store.manifest()
        plan = [p for p in manifest.plan if p.name != "jax.portable.cpu.r01"]
        store.write_manifest(Manifest(**(manifest.model_dump(exclude={"sha256"}) | {"plan": plan})))
        message = "jax.portable.cpu.r01.json is not in the run's plan"
    else:
        for one in path.parent.iterdir():
            one.unlink()
        path.parent.rmdir()
        path.parent.write_text("")
        message = "rounds is not a folder"
    for read in (lambda: store.rounds(), lambda: validate_path(store.folder)):
        with pytest.raises(ValueError, match=message):
            read()
