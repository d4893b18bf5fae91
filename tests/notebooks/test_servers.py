"""Both engines behind `scorematrix serve` and in process, in one run: real servers, papermill, verdicts of both."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import yaml

from scorematrix.compare import Comparison
from scorematrix.results import RunStore, read_document
from tests.conftest import FIXTURES, QUICK_COMPILES, real_time, report_of, run_cli
from tests.processes import running
from tests.servers.serve.process import Server

pytestmark = [pytest.mark.slow, pytest.mark.chaos]
TABLE = {"jax": "sglang-jax", "pytorch": "sglang"}
"""Engine: the server that it is behind."""


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("servers")
    done = run_cli("run", str(FIXTURES / "servers.yaml"), "--run-id", "s", "--report", cwd=folder, **QUICK_COMPILES)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder / "outputs" / "runs" / "s"


def test_the_whole_matrix_runs_over_http(run: Path) -> None:
    rounds = RunStore(run).rounds()
    assert len(rounds) == 1 + 4 * 3
    assert all(cell.status == "ok" for r in rounds for cell in r.cells), [r.error for r in rounds]
    (last,) = (r for r in rounds if (r.view, r.index, r.backend) == ("best_native", 2, "jax"))
    assert last.setup.compiles and all(c.from_cache for c in last.setup.compiles)
    for round_ in (r for r in rounds if r.view == "server"):
        assert round_.record and round_.setup and round_.events == []
        assert round_.group and round_.alone_because is None, "servers take turns too"
        drawn = [turn for cell in round_.cells for turn in cell.turns if turn.fresh_seed is not None]
        assert drawn, "tokens are drawn for servers as well"
        assert round_.record.settings["start_seconds"] > 0
        assert "scorematrix serve --backend" in str(round_.record.settings["started_by"])
        assert (run / "servers" / f"{round_.name}.log").is_file()


def test_scores_over_http_are_those_in_process(run: Path) -> None:
    rounds = {r.name: r for r in RunStore(run).rounds()}
    for engine, server in TABLE.items():
        for chunk in (4, 8):
            here = rounds[f"{engine}.best_native.cpu.r01"].cell(chunk)
            there = rounds[f"{server}.server.cpu.r01"].cell(chunk)
            assert here and there
            assert np.abs(np.asarray(here.scores) - np.asarray(there.scores)).max() <= 2e-5


def test_servers_are_compared_with_each_other_and_engines_with_each_other(run: Path) -> None:
    comparison = read_document(run / "comparison.json", Comparison)
    assert [(c.view, c.first.backend, c.second.backend) for c in comparison.contrasts] == [
        ("best_native", "jax", "pytorch"),
        ("server", "sglang-jax", "sglang"),
    ]
    for contrast in comparison.contrasts:
        bad = [g for g in contrast.gates if g.status == "failed"]
        assert bad == [], f"{contrast.view}: {bad}"
        ceiling = next(g for g in contrast.gates if g.name.startswith("physics"))
        assert ceiling.status == "passed", "a launched server's ceiling is measured once it has ended"
    over = {(s.backend, s.baseline) for s in comparison.speedups}
    assert {("jax", "sglang-jax"), ("pytorch", "sglang")} <= over, "what the front costs"
    assert "sglang-jax" in report_of(run)


def test_each_server_is_audited_and_put_under_load_once(run: Path) -> None:
    studies = {study.backend: study for study in RunStore(run).studies()}
    assert studies.keys() == set(TABLE.values())
    for study in studies.values():
        assert study.errors == {} and study.audit and study.load
        assert study.audit.verdict == "sound", [g for g in study.audit.gates if g.status != "passed"]
        assert [p.concurrency or p.rate for p in study.load.points] == [1, 2, 20]
        assert all(point.totals.answered for point in study.load.points)
    page = report_of(run)
    for words in ("SOUND", "sglang-jax server", "20/s"):
        assert words in page, words


def test_no_server_is_left(run: Path) -> None:
    """The guard of a server names the run's log, and lives until its whole process group has ended."""
    assert [guard.pid for guard in running("guard.py") if str(run) in " ".join(guard.cmdline())] == []


def test_a_server_that_is_not_there_is_skipped_and_its_verdict_deferred(tmp_path: Path) -> None:
    content = yaml.safe_load((FIXTURES / "servers.yaml").read_text())
    content["backends"][2]["server"] = {"url": "http://127.0.0.1:9"}
    content["backends"][3]["server"] = {"launch": "no-such-program {port}"}
    content["backends"][:2], content["reference"] = [{"backend": "numpy"}], "numpy"
    (tmp_path / "p.yaml").write_text(yaml.safe_dump(content))
    done = run_cli("run", "p.yaml", "--run-id", "s", "--report", "--set", "chunk_sizes=[8]", cwd=tmp_path,
                   **QUICK_COMPILES)  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    comparison = read_document(tmp_path / "outputs" / "runs" / "s" / "comparison.json", Comparison)
    assert [(c.view, c.verdict) for c in comparison.contrasts] == [("server", "deferred")]
    assert {n.backend: n.reason for n in comparison.notices} == {"sglang-jax": "no_answer", "sglang": "not_installed"}
    assert "http://127.0.0.1:9" in done.stdout.replace("\n", " ")


@real_time  # processes beside it take the cores that the servers would use
def test_servers_that_run_already_take_turns_and_their_work_is_not_taken_for_that_of_others(tmp_path: Path) -> None:
    content = yaml.safe_load((FIXTURES / "servers.yaml").read_text())
    del content["load"]
    served = [Server("--backend", engine, "--dtype", "float32", model=content["model"]) for engine in TABLE]
    try:
        for choice, server in zip(content["backends"][2:], served, strict=True):
            choice["server"] = {"url": server.url, "audit": False}
        content["backends"] = content["backends"][2:]
        (tmp_path / "p.yaml").write_text(yaml.safe_dump(content))
        done = run_cli("run", "p.yaml", "--run-id", "s", "--report", cwd=tmp_path, **QUICK_COMPILES)
        assert done.returncode == 0, done.stdout + done.stderr
    finally:
        for server in served:
            server.stop()
    run = tmp_path / "outputs" / "runs" / "s"
    rounds = [r for r in RunStore(run).rounds() if r.view == "server"]
    assert len(rounds) == 6 and all(r.group and cell.status == "ok" for r in rounds for cell in r.cells)
    assert all(r.ceilings for r in rounds if r.role == "tuning"), "they run on this machine"
    turns = [turn for r in rounds if r.role == "confirm" for cell in r.cells for turn in cell.turns]
    used = sum(turn.process_ns or 0 for turn in turns) / sum(turn.raw_ns or 0 for turn in turns)
    assert used > 0.5, "the server's work counts as the round's own"
    assert [s.backend for s in RunStore(run).studies()] == []
    (contrast,) = read_document(run / "comparison.json", Comparison).contrasts
    # Tests that run beside this one are others' work.
    assert [g for g in contrast.gates if g.status == "failed" and g.name != "interference"] == []
    assert "ran at a given URL" in report_of(run)


def test_a_server_that_polls_for_requests_is_measured_alone_and_the_report_says_so(tmp_path: Path) -> None:
    content = yaml.safe_load((FIXTURES / "servers.yaml").read_text())
    content["backends"] = content["backends"][2:]
    poller = Path(__file__).parents[1] / "servers" / "client" / "polling_server.py"
    content["backends"][0]["server"] = {"launch": f"{{python}} {poller} {{port}}"}
    content["backends"][1]["server"] = {"launch": f"{{python}} {poller.with_name('dying_server.py')} {{port}} 999"}
    for choice in content["backends"]:
        choice["server"]["audit"] = False
    del content["load"]
    (tmp_path / "p.yaml").write_text(yaml.safe_dump(content))
    done = run_cli("run", "p.yaml", "--run-id", "s", "--report", "--set", "chunk_sizes=[8]", cwd=tmp_path,
                   **QUICK_COMPILES)  # fmt: skip
    assert done.returncode == 3, "these servers answer with constant scores"
    run = tmp_path / "outputs" / "runs" / "s"
    rounds = [r for r in RunStore(run).rounds() if r.view == "server"]
    assert len(rounds) == 6 and all(cell.status == "ok" for r in rounds for cell in r.cells)
    assert all(r.group is None and "sglang-jax takes" in str(r.alone_because) for r in rounds)
    assert "while it waits" in report_of(run)
    assert list(running("polling_server.py")) == []


def test_a_server_that_dies_costs_its_cell_and_the_report_says_so(tmp_path: Path) -> None:
    content = yaml.safe_load((FIXTURES / "servers.yaml").read_text())
    script = Path(__file__).parents[1] / "servers" / "client" / "dying_server.py"
    content["backends"][2]["server"] = {"launch": f"{{python}} {script} {{port}} 3"}
    (tmp_path / "p.yaml").write_text(yaml.safe_dump(content))
    done = run_cli("run", "p.yaml", "--run-id", "s", "--report", "--only", "sglang-jax", cwd=tmp_path, **QUICK_COMPILES)
    run = tmp_path / "outputs" / "runs" / "s"
    rounds = RunStore(run).rounds()
    assert rounds and all("started again" in " ".join(r.events) for r in rounds), done.stdout
    assert any("server_died" in str(cell.error) for r in rounds for cell in r.cells)
    assert "out of luck" in report_of(run)
