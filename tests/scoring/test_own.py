"""Scorers of one's own: callables, classes, addresses and entry points, from a function's answer to a verdict."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml

from scorematrix import ScoreRequest, load_backend
from scorematrix.audit import audit_backend
from scorematrix.compare import Comparison, compare_run
from scorematrix.matrix import plan_rounds
from scorematrix.models import Model, load_model
from scorematrix.notebooks import execute_notebook
from scorematrix.results import RunStore, read_document
from scorematrix.scoring import list_backends
from scorematrix.scoring.numpy_decoder import PerItem, SharedPrefix, last_logits
from tests.conftest import ROOT, call_cli, environment_of_users, real_time, report_of
from tests.factory import make_params, make_run
from tests.here import execute_here

REQUEST = ScoreRequest([1, 2, 3], [[4, 5], [6]], [100, 200])


@pytest.fixture(scope="module")
def model() -> Model:
    return load_model("random:tiny-llama", seed=11)


def halves(query_ids, items_ids, label_ids):
    return np.full((len(items_ids), len(label_ids)), 1 / len(label_ids), np.float32)


def raises(query_ids, items_ids, label_ids):
    raise KeyError("no such table")


WRONG = {
    "raises": (raises, ["KeyError", "no such table"]),
    "shape": (lambda q, i, l: halves(q, i, l)[:1], ["(1, 2)", "(2, 2)"]),
    "dtype": (lambda q, i, l: halves(q, i, l).astype(float), ["float64", "float32"]),
    "type": (lambda q, i, l: halves(q, i, l).tolist(), ["list", "numpy.ndarray"]),
    "nothing": (lambda q, i, l: None, ["NoneType", "float32"]),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_wrong_answer_is_one_line_with_field_value_and_remedy(model: Model, case: str) -> None:
    function, words = WRONG[case]
    function.__name__ = "mine"
    with pytest.raises(ValueError, match="'mine'") as error:
        load_backend(function, model=model).score(REQUEST)
    assert all(word in str(error.value) for word in words) and "\n" not in str(error.value)


def test_a_callable_is_asked_for_what_it_can_answer(model: Model) -> None:
    plain = load_backend(halves, model=model)
    assert plain.info.softmax_only and plain.score(REQUEST).tolist() == [[0.5, 0.5]] * 2
    with pytest.raises(ValueError, match="apply_softmax=False.*'halves'"):
        plain.score(ScoreRequest([1], [[2]], [3], apply_softmax=False))
    both = load_backend(lambda q, i, l, apply_softmax: halves(q, i, l) * (1 if apply_softmax else 0.5), model=model)
    assert both.score(ScoreRequest([1], [[2]], [3, 4], apply_softmax=False)).tolist() == [[0.25, 0.25]]
    with pytest.raises(ValueError, match="256"):
        plain.score(ScoreRequest([256], [[2]], [3]))


@pytest.mark.parametrize("scorer", [7, object()], ids=["number", "object"])
def test_what_is_no_scorer_is_refused(model: Model, scorer: object) -> None:
    with pytest.raises(ValueError, match=f"{type(scorer).__name__}.*callable"):
        load_backend(scorer, model=model)


def test_a_class_gets_what_it_takes(model: Model) -> None:
    backend = load_backend(PerItem, model=model, device="cpu", dtype="float32")
    assert (backend.info.backend, backend.info.view) == ("PerItem", "own")
    with pytest.raises(ValueError, match="dtype='bfloat16'.*float32"):
        load_backend(PerItem, model=model, dtype="bfloat16")


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("no_such_module:score", "no_such_module.*module:attribute"),
        ("scorematrix.scoring.numpy_decoder:Perltem", "Perltem"),
        ("nmupy", "backend='nmupy'.*module:attribute"),
    ],
)
def test_what_cannot_be_found_is_named(model: Model, name: str, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        load_backend(name, model=model)


def test_an_own_scorer_has_one_view(model: Model) -> None:
    with pytest.raises(ValueError, match="view='portable'.*own"):
        load_backend("scorematrix.scoring.numpy_decoder:PerItem", view="portable", model=model)


@pytest.mark.parametrize("scorer", [PerItem, SharedPrefix])
def test_the_numpy_scorers_pass_the_audit(tiny: Model, scorer: type) -> None:
    report = audit_backend(load_backend(scorer, model=tiny), tiny, seconds=0)
    assert report.verdict == "sound", [g for g in report.gates if g.status != "passed"]


def test_a_sound_callable_passes_the_audit_and_a_lying_one_does_not(model: Model) -> None:
    def last_token(query_ids, items_ids, label_ids):
        rows = np.stack([last_logits(model, [*query_ids, *ids])[list(label_ids)] for ids in items_ids])
        exp = np.exp(rows - rows.max(axis=1, keepdims=True))
        return exp / exp.sum(axis=1, keepdims=True)

    assert audit_backend(load_backend(last_token, model=model), model, seconds=0).verdict == "sound"
    without_last = load_backend(lambda q, i, l: last_token(q, [ids[:-1] or ids for ids in i], l), model=model)
    assert audit_backend(without_last, model, seconds=0).verdict == "unsound"


MINE = "numpy-per-item"
MIXED = {
    "backends": [{"backend": "jax", "views": ["portable", "best_native"]}, {"backend": MINE}],
    "comparisons": [{"jax": "cpu", MINE: "cpu"}],
}


def test_a_scorer_named_in_a_comparison_meets_every_view_of_the_other_side() -> None:
    params = make_params(**MIXED)
    by_group = {}
    for planned in plan_rounds(params):
        if planned.role == "confirm":
            by_group.setdefault(planned.index, []).append((planned.backend, planned.view))
    assert all(sorted(rounds) == [("jax", "best_native"), ("jax", "portable"), (MINE, "own")]
               for rounds in by_group.values())  # fmt: skip
    firsts = {rounds.index((MINE, "own")) > rounds.index(("jax", "best_native")) for rounds in by_group.values()}
    assert firsts == {True, False}, "who goes first is drawn"
    slower = lambda backend, index, chunk: (1.3 if backend == "jax" else 1.0) * (2.0 + 4.0 / chunk)  # noqa: E731
    comparison = compare_run(*make_run(params, seconds=slower))
    assert [(c.kind, c.first.key, c.second.key, c.verdict) for c in comparison.contrasts] == [
        ("backend", ("jax", view, "cpu"), (MINE, "own", "cpu"), MINE) for view in ("portable", "best_native")
    ]
    for contrast in comparison.contrasts:
        assert contrast.winner == contrast.second and f"{MINE} is 1.30 times as fast as JAX" in contrast.sentence


@pytest.mark.parametrize(
    ("comparison", "words"),
    [({"jax": "cpu", "numpy-per-itm": "cpu"}, "'numpy-per-itm'.*jax, numpy-per-item"), ({"jax": "cpu"}, "two sides")],
)
def test_a_comparison_of_what_is_not_there_is_refused(comparison: dict, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        make_params(**(MIXED | {"comparisons": [comparison]}))


SCORERS = """
import numpy as np
from scorematrix.models import load_model
from scorematrix.scoring.numpy_decoder import last_logits

model = load_model("random:tiny-llama")

def score(query_ids, items_ids, label_ids):
    rows = np.stack([last_logits(model, [*query_ids, *ids])[list(label_ids)] for ids in items_ids])
    exp = np.exp(rows - rows.max(axis=1, keepdims=True))
    return exp / exp.sum(axis=1, keepdims=True)

def nan(query_ids, items_ids, label_ids):
    return np.full((len(items_ids), len(label_ids)), np.nan, np.float32)
"""


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """An installed package that registers a scorer, as pip would leave it; the variable that makes it importable."""
    site, info = tmp_path / "site", tmp_path / "site" / "their_scorers-1.0.dist-info"
    info.mkdir(parents=True)
    (site / "their_scorers.py").write_text(SCORERS)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: their-scorers\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[scorematrix.backends]\ntheirs = their_scorers:score\n")
    monkeypatch.syspath_prepend(site)
    return {"PYTHONPATH": os.pathsep.join(filter(None, [str(site), os.environ.get("PYTHONPATH")]))}


RUN = {
    "name": "own", "model": "random:tiny-llama", "dtype": "float32", "chunk_sizes": [8], "rounds": 2, "passes": 1,
    "seed": 7, "controls": False, "reference": "scorematrix.scoring.numpy_decoder:PerItem",
    "workload": {"kind": "canonical", "query_tokens": 24, "n_items": 8, "item_tokens": [3, 9],
                 "label_ids": [100, 200], "n_queries": 1, "seed": 3},
}  # fmt: skip


@real_time
@pytest.mark.slow
@pytest.mark.usefixtures("rounds_here")
def test_a_registered_scorer_is_found_audited_and_run(
    tmp_path: Path, package: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Through the command line and papermill, beside one of a module in the folder: no change of ours is needed.

    The tuning rounds have a kernel each, which has to find both scorers; the others need none.
    """

    def execute(name: str, output: Path, parameters: dict, timeout_seconds: float | None = None) -> None:
        used = execute_notebook if parameters.get("role") == "tuning" else execute_here
        used(name, output, parameters, timeout_seconds)

    monkeypatch.setattr("scorematrix.matrix.group.execute_notebook", execute)
    monkeypatch.setattr("scorematrix.report.export.execute_notebook", execute)
    monkeypatch.setattr("sys.path", [*sys.path])
    folder = tmp_path / "here"
    folder.mkdir()
    (folder / "beside.py").write_text(SCORERS)
    listed = call_cli("models", cwd=folder, **package)
    assert "their_scorers:score" in listed.stdout, listed.stderr
    audit = call_cli(
        "audit",
        "--backend",
        "theirs",
        "--model",
        "random:tiny-llama",
        "--seconds",
        "1",
        "--json",
        cwd=folder,
        **package,
    )
    assert json.loads(audit.stdout)[0]["verdict"] == "sound", audit.stderr
    backends = ["theirs", "beside:score"]
    content = RUN | {"backends": [{"backend": b} for b in backends], "comparisons": [dict.fromkeys(backends, "cpu")]}
    (folder / "p.yaml").write_text(yaml.safe_dump(content, sort_keys=False))
    done = call_cli("run", "p.yaml", "--run-id", "r", "--report", cwd=folder, **package)
    assert done.returncode == 0, done.stdout + done.stderr
    run = folder / "outputs" / "runs" / "r"
    rounds = RunStore(run).rounds()
    assert [r.role for r in rounds].count("reference") == 1 and len(rounds) == 1 + 2 * 3
    assert all(cell.status == "ok" for r in rounds for cell in r.cells), [c.error for r in rounds for c in r.cells]
    sources = {r.record.settings["source_sha256"] for r in rounds if r.role != "reference"}
    assert len(sources) == 1, "two copies of one file"
    (contrast,) = read_document(run / "comparison.json", Comparison).contrasts
    assert (contrast.first.name, contrast.second.name, contrast.kind) == ("theirs", "beside:score", "backend")
    assert {g.status for g in contrast.gates} == {"passed"}, [g for g in contrast.gates if g.status != "passed"]
    assert all(name in report_of(run) for name in backends)


def test_a_module_that_is_not_there_defers_and_a_scorer_of_nan_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, smollm2: Model
) -> None:
    monkeypatch.setenv("SCOREMATRIX_PATH", str(tmp_path))
    monkeypatch.setattr("sys.path", [*sys.path])
    (tmp_path / "mine_alone.py").write_text(SCORERS)
    asked = ("score", "--query", "q", "--item", "i", "--label", " yes", "--backend")
    done = call_cli(*asked, "mine_alone:nan", cwd=tmp_path)
    assert done.returncode == 2 and all(word in done.stderr for word in ("'mine_alone:nan'", "item 0", "nan"))
    assert len(done.stderr.strip().splitlines()) == 1
    elsewhere = RUN | {"backends": [{"backend": "gone:score"}, {"backend": "mine_alone:score"}],
                       "comparisons": [{"gone:score": "cpu", "mine_alone:score": "cpu"}], "rounds": 2}  # fmt: skip
    (tmp_path / "p.yaml").write_text(yaml.safe_dump(elsewhere))
    done = call_cli("preflight", "p.yaml", cwd=tmp_path)
    assert done.returncode == 0 and all(word in done.stdout for word in ("not_installed", "gone"))


def test_backends_are_listed_with_what_they_lack() -> None:
    rows = {row.name: row for row in list_backends()}
    assert rows["numpy"].origin == "scorematrix.scoring.numpy_decoder:SharedPrefix" and rows["numpy"].lacks is None


def test_the_readme_example_scores(smollm2: Model) -> None:
    """The ten lines that the README shows, as they stand there."""
    (example,) = re.findall(r"```python\n(# my_scorers\.py\n.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    assert len(example.splitlines()) <= 12
    compared = """
from scorematrix import load_backend
from scorematrix.workload import ScoreRequest
request = ScoreRequest([504, 314, 260], [[2068], [1116, 30]], [9230, 2838])
found, exact = (load_backend(one, model=model).score(request) for one in (score, "numpy-per-item"))
print(np.abs(found - exact).max())
"""
    one_thread = environment_of_users(OPENBLAS_NUM_THREADS="1")  # with more, sums are split differently
    said = subprocess.run([sys.executable, "-c", example + compared], env=one_thread, capture_output=True, text=True)
    assert said.returncode == 0 and float(said.stdout) < 1e-6, said.stderr
