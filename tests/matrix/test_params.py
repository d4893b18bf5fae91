"""A params file is right, or refused in one line that names field, value and remedy."""

from __future__ import annotations

from pathlib import Path

import pytest

from scorematrix.matrix import Params, load_params

ROOT = Path(__file__).parents[2]
TINY = ROOT / "tests" / "fixtures" / "tiny.yaml"


@pytest.mark.parametrize("path", sorted((ROOT / "params").glob("*.yaml")), ids=lambda p: p.name)
def test_committed_params_are_sound(path: Path) -> None:
    assert load_params(path).name == path.stem, "the report names the file by it"


BAD = {
    "unknown key": ({"chunk_size": [4]}, "chunk_size=.*'chunk_sizes'"),
    "unknown key within": ({"workload.seeds": 3}, "workload.seeds=3.*'seed'"),
    "wrong type": ({"rounds": "ten"}, "rounds='ten'"),
    "quoted number": ({"passes": "2"}, "passes='2'"),
    "truth value for a number": ({"passes": True}, "passes=True"),
    "zero": ({"chunk_sizes": [0]}, "chunk_sizes.0=0"),
    "empty list": ({"chunk_sizes": []}, "chunk_sizes=\\[\\]"),
    "twice": ({"chunk_sizes": [4, 4]}, "chunk_sizes=\\[4, 4\\]"),
    "unknown backend": ({"backends": [{"backend": "torch"}]}, "backend='torch'.*'pytorch'"),
    "unknown view": ({"backends": [{"backend": "jax", "views": ["portabel"]}]}, "view='portabel'.*'portable'"),
    "only a baseline": (
        {"backends": [{"backend": "transformers", "views": ["per_item"]}]}, "comparisons.*'jax'.*transformers"),
    "unknown target": ({"comparisons": [{"jax": "tpu-v6e", "pytorch": "cpu"}]}, "target='tpu-v6e'.*'tpu-v6e-1'"),
    "unknown kind": ({"workload.kind": "random"}, "workload"),
    "bad mesh": ({"backends": [{"backend": "jax", "views": ["best_native"], "mesh": "2x4"}]}, "mesh='2x4'"),
    "mesh of one device": (
        {"backends": [{"backend": "jax", "views": ["portable"], "mesh": "data=2"}]}, "mesh.*'portable'"),
    "bad dtype": ({"dtype": "fp16"}, "dtype='fp16'"),
    "bad name": ({"name": "../up"}, "name='../up'"),
    "margin": ({"margin": 0.0}, "margin=0.0"),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
def test_bad_params_are_refused(case: str) -> None:
    changes, words = BAD[case]
    with pytest.raises(ValueError, match=words) as error:
        load_params(TINY, changes)
    assert "tiny.yaml" in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("text", "words"),
    [("[1, 2]", "list"), ("a: [", "YAML"), ("", "NoneType"), ("name: x", "model ")],
)
def test_bad_files_are_refused(tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "p.yaml").write_text(text)
    with pytest.raises(ValueError, match=words):
        load_params(tmp_path / "p.yaml")


def test_hash_covers_every_value_and_survives_json() -> None:
    params = load_params(TINY)
    assert Params.model_validate(params.model_dump(mode="json")).sha256 == params.sha256
    assert load_params(TINY, {"seed": 8}).sha256 != params.sha256
    assert load_params(TINY, {"warmup_passes": 1}).sha256 == params.sha256, "1 is the default"


@pytest.mark.parametrize(
    ("backend", "view", "target", "mesh"),
    [
        ("jax", "best_native", "cpu", None),
        ("jax", "best_native", "tpu-v6e-1", None),
        ("jax", "best_native", "tpu-v6e-8", "data=8"),
        ("jax", "portable", "tpu-v6e-8", None),
        ("pytorch", "best_native", "cpu", "data=1,model=2"),
        ("pytorch", "portable", "cpu", None),
        ("transformers", "per_item", "cpu", None),
    ],
)
def test_the_mesh_is_the_backends_own_or_the_targets(backend: str, view: str, target: str, mesh: str | None) -> None:
    views = ["portable", "best_native"]
    choices = [
        {"backend": "jax", "views": views},
        {"backend": "pytorch", "views": views, "mesh": "data=1,model=2"},
    ]
    assert load_params(TINY, {"backends": choices}).mesh_of(backend, view, target) == mesh
