"""The committed notebooks, executed by papermill on the real model with a small plan."""

from __future__ import annotations

import json
import re
import tempfile
from collections.abc import Iterator
from pathlib import Path
from unittest.mock import Mock

import nbformat
import papermill
import pytest

from scorematrix.compare import Comparison, compare_run
from scorematrix.matrix.meter import MOST_PROBE_PASSES
from scorematrix.models import Model
from scorematrix.notebook_kernels import PREFIX
from scorematrix.notebooks import NotebookFailed, check_parameters, execute_notebook, find_notebook
from scorematrix.results import RunStore, read_document
from tests.conftest import FIXTURES, call_cli, report_of, run_cli
from tests.factory import write_run

pytestmark = pytest.mark.slow


@pytest.fixture
def sockets(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Where this process's kernels put their sockets, and nobody else's."""
    with tempfile.TemporaryDirectory(prefix="k") as folder:
        monkeypatch.setattr(tempfile, "tempdir", folder)
        yield Path(folder)


def shown(notebook: Path) -> str:
    """All that an executed notebook displays; nothing may have been written to stderr."""
    cells = nbformat.read(notebook, as_version=4).cells
    outputs = [output for cell in cells for output in cell.get("outputs", [])]
    assert not [o for o in outputs if o.output_type == "error"]
    assert [o.text for o in outputs if o.get("name") == "stderr"] == []
    return " ".join(str(o.get("data", {}).get("text/html", o.get("text", ""))) for o in outputs)


def test_rounds_are_recorded_as_planned(real_run: Path) -> None:
    store = RunStore(real_run)
    ready = [p for p in store.manifest().plan if p.target == "cpu"]
    rounds = store.rounds()
    assert [r.name for r in rounds] == [p.name for p in ready] and len(rounds) == 7
    for round_ in rounds:
        assert all(cell.status == "ok" and cell.compiles_in_window == 0 for cell in round_.cells)
        assert round_.environment.git_commit is None or len(round_.environment.git_commit) == 40
    for round_ in (r for r in rounds if r.role == "tuning"):
        assert 2 <= len(round_.probes.fresh_ns) <= MOST_PROBE_PASSES, "new queries were asked beside the known ones"
        assert round_.profile.error is None and all(part.seconds > 0 for part in round_.profile.parts)
    (reference,) = (r for r in rounds if r.role == "reference")
    assert [sample.index for sample in reference.samples] == [1, 2]
    for sample in reference.samples:
        asked = [t.fresh_seed for r in rounds if r.index == sample.index for c in r.cells for t in c.turns]
        assert asked.count(sample.seed) == 2, "once a side"
    compiled = [r for r in rounds if r.backend == "jax"]  # PyTorch's: test_servers
    assert len(compiled) == 3 and all(r.setup.compiles for r in compiled)
    (last,) = (r for r in compiled if r.index == 2)
    assert all(c.from_cache for c in last.setup.compiles)


def test_real_scores_pass_every_gate(real_run: Path) -> None:
    comparison = read_document(real_run / "comparison.json", Comparison)
    assert [(c.kind, c.view) for c in comparison.contrasts] == [
        ("framework", "best_native"),
        ("system", "best_native"),
    ]
    measured, missing = comparison.contrasts
    assert {gate.status for gate in measured.gates} == {"passed"}, measured.gates
    assert {f"drawn tokens' scores {name}" for name in ("jax", "pytorch")} <= {gate.name for gate in measured.gates}
    assert measured.verdict == "not_enough_evidence" and "2" in measured.reason
    assert missing.verdict == "deferred" and comparison.partial


@pytest.mark.chaos
def test_portable_views_and_controls_of_the_real_model_pass_every_gate(tmp_path: Path, smollm2: Model) -> None:
    """Beside a baseline, in rounds beyond those that `make test` has time for."""
    views = "[{backend: jax, views: [portable]}, {backend: pytorch, views: [portable]}, {backend: numpy}]"
    done = run_cli("run", str(FIXTURES / "real.yaml"), "--run-id", "r", "--set", f"backends={views}",
                   "--set", "controls=true", "--set", "chunk_sizes=[6]", cwd=tmp_path)  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    store = RunStore(tmp_path / "outputs" / "runs" / "r")
    comparison = compare_run(store.manifest(), store.workload(), store.readiness(), store.rounds())
    measured, missing = comparison.contrasts
    # Two rounds are too few for the controls to say anything.
    assert {gate.status for gate in measured.gates if "control" not in gate.name} == {"passed"}, measured.gates
    assert measured.view == "portable" and missing.verdict == "deferred"
    assert {r.backend for r in store.rounds() if r.role == "control"} == {"jax", "pytorch"}, "each in turn"
    baseline = next(side for side in comparison.sides if side.backend == "numpy" and side.target == "cpu")
    assert baseline.state == "measured" and baseline.max_difference <= 1e-4


def test_every_measured_cell_says_how_far_from_the_floor(real_run: Path) -> None:
    comparison = read_document(real_run / "comparison.json", Comparison)
    for side in comparison.sides:
        if side.state == "measured":
            assert side.matmul_flops_per_second > 1e9 and side.copy_bytes_per_second > 1e8
            assert all(0 < cell.floor_fraction < 1.05 for cell in side.chunks), side
            assert all(0 <= cell.padding_share < 0.5 and cell.mfu > 0 for cell in side.chunks), side
            assert sum(part.share for part in side.profile.parts) == pytest.approx(1)


def test_report_and_last_lines_carry_the_skip(real_run: Path) -> None:
    page = report_of(real_run)
    assert "<title>PARTIAL" in page and "GPU G4, RTX PRO 6000" in page and page.count("<svg") >= 4
    last = (real_run.parents[2] / "stdout.txt").read_text().strip().splitlines()[-2:]
    assert all(line.startswith("SKIPPED") for line in last)


def test_round_notebook_shows_its_figures(real_run: Path) -> None:
    content = shown(next((real_run / "notebooks").glob("02_*jax*.r01.ipynb")))
    assert "items/s" in content and "programs" in content


def test_same_command_again_measures_nothing(real_run: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in (real_run / "rounds").iterdir()}
    params = Path(__file__).parents[1] / "fixtures" / "real.yaml"
    done = call_cli("run", str(params), "--run-id", "real", cwd=real_run.parents[2])
    assert done.returncode == 0, done.stderr
    assert {path: path.stat().st_mtime_ns for path in (real_run / "rounds").iterdir()} == before


def test_preflight_notebook(tmp_path: Path, sockets: Path) -> None:
    execute_notebook("01_preflight", tmp_path / "o.ipynb", {"params_file": "../params/quick.yaml"}, 120)
    content = shown(tmp_path / "o.ipynb")
    assert "SKIPPED" in content and "g4-standard-48" in content
    assert list(sockets.iterdir()) == [], "the kernel's sockets are gone"
    assert list(find_notebook("01_preflight").parent.glob("kernel-*")) == [], "and never lay in the clone"


def test_explore_notebook(real_run: Path, tmp_path: Path) -> None:
    execute_notebook("04_explore", tmp_path / "o.ipynb", {"run": str(real_run)}, 120)
    content = shown(tmp_path / "o.ipynb")
    assert "overlap P(" in content
    assert "jax P(&#x27; yes&#x27;)" in content or "jax P(' yes')" in content
    assert "pytorch P(" in content and "portable" in content
    for words in ("best_native", "reference", "jax best_native", 'role="status"'):
        assert words in content, words


def test_unknown_parameters_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="'run_dri'"):
        execute_notebook("03_report", tmp_path / "o.ipynb", {"run_dri": "x"})
    assert list(tmp_path.iterdir()) == []
    plain = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("x = 1")])
    nbformat.write(plain, tmp_path / "plain.ipynb")
    with pytest.raises(ValueError, match="plain.ipynb.*parameters"):
        check_parameters(tmp_path / "plain.ipynb", {"x": 2})
    with pytest.raises(ValueError, match="'05_none'"):
        find_notebook("05_none")


def test_kernel_that_does_not_start_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("scorematrix.notebook_kernels.tempfile.mkdtemp", lambda **_: str(tmp_path / f"{PREFIX}gone"))
    with pytest.raises(NotebookFailed, match="01_preflight.*kernel"):
        execute_notebook("01_preflight", tmp_path / "o.ipynb", {"params_file": "../params/quick.yaml"}, 120)


@pytest.mark.parametrize(
    ("raised", "expected"), [(TimeoutError("no reply"), NotebookFailed), (OSError(28, "No space left"), OSError)]
)
def test_only_errors_of_the_operating_system_count_as_disk_errors(
    raised: OSError, expected: type, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("papermill.execute_notebook", Mock(side_effect=raised))
    with pytest.raises(expected, match="no reply|No space left"):
        execute_notebook("01_preflight", tmp_path / "o.ipynb", {"params_file": "../params/quick.yaml"}, 120)


def test_report_that_cannot_be_made_is_one_line(tmp_path: Path) -> None:
    write_run(tmp_path / "outputs" / "runs" / "r")
    done = run_cli("report", "r", cwd=tmp_path, MPLBACKEND="none such")  # figures cannot be drawn
    assert done.returncode == 1, done.stdout + done.stderr
    assert "03_report" in done.stderr and len(done.stderr.strip().splitlines()) == 1


def test_failing_notebook_is_kept_and_named(tmp_path: Path) -> None:
    with pytest.raises(NotebookFailed, match="03_report.*ValueError.*none"):
        execute_notebook("03_report", tmp_path / "o.ipynb", {"run_dir": str(tmp_path / "none")}, 120)
    assert "papermill-error-cell-tag" in json.dumps(nbformat.read(tmp_path / "o.ipynb", as_version=4))
    assert [p.name for p in tmp_path.iterdir()] == ["o.ipynb"]


def test_plain_papermill_runs_the_report(tmp_path: Path) -> None:
    """As a user would by hand, without our command line."""
    store = write_run(tmp_path / "run")
    parameters = {"run_dir": str(store.folder)}
    papermill.execute_notebook(str(find_notebook("03_report")), str(tmp_path / "o.ipynb"), parameters,
                               kernel_name="python3", progress_bar=False)  # fmt: skip
    assert re.search("SKIPPED.*GPU G4", shown(tmp_path / "o.ipynb"))
