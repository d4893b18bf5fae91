"""Shared fixtures: the real model, tiny random models, and one small real run that many tests look at."""

from __future__ import annotations

import contextlib
import functools
import gc
import io
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from unittest import mock

import pytest

from scorematrix.models import Model, ModelUnavailable, load_model
from scorematrix.models.config import ARCHITECTURES
from scorematrix.scoring import BACKENDS
from tests.here import execute_here

# scorematrix loads no framework by itself: what they read on import is set in time.
# Each test process, with the rounds that it starts, is bound to its cores: one core where there are more processes than
# cores. Threads of one framework that spin on a shared core would wait for each other.
if (n_workers := int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "0"))) > 1:
    cores = sorted(os.sched_getaffinity(0))
    number = int(os.environ["PYTEST_XDIST_WORKER"].removeprefix("gw"))
    own = cores[number::n_workers] or [cores[number % len(cores)]]
    os.sched_setaffinity(0, own)
    os.environ["OMP_NUM_THREADS"] = str(len(own))

# Compiling is most of what tests in this process do, and their maths is the same at any level of optimization. What
# tests start as a process compiles as it does for users.
# On a GPU they would change what device tests are there to look at.
QUICK = (
    "" if Path("/dev/nvidiactl").exists() else "--xla_backend_optimization_level=0 --xla_cpu_use_fusion_emitters=false"
)
FLAGS_OF_USERS = os.environ.get("XLA_FLAGS", "").replace(QUICK, "").strip()  # a worker inherits ours
os.environ["XLA_FLAGS"] = f"{FLAGS_OF_USERS} {QUICK}".strip()

# PyTorch traces and counts its graphs as ever and runs them uncompiled: inductor's C++ takes half a minute a model. The
# fixture `inductor` compiles for real, and so do device tests, rehearsed ones too.
BACKENDS_OF_USERS = os.environ.get("TORCH_COMPILE_OVERRIDE_BACKENDS", "").replace(UNCOMPILED := ">=0:eager", "")
if QUICK and "SCOREMATRIX_TEST_DEVICE" not in os.environ:
    os.environ["TORCH_COMPILE_OVERRIDE_BACKENDS"] = UNCOMPILED

# Rich reads it once, when the command line's console is made: a line that a test looks for is not broken.
os.environ["COLUMNS"] = "200"

# For tests that watch a real clock: a machine that stands still for a moment costs one of three tries.
real_time = pytest.mark.flaky(reruns=2, reruns_delay=1)

ROOT = Path(__file__).resolve().parents[1]

FIXTURES = ROOT / "tests" / "fixtures"
ENGINES = re.compile("|".join(f"{name}-{view}" for name, entry in BACKENDS.items() for view in entry.views))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log):
    """One process gets a module whole, or all that is asked of one engine: what is loaded once serves all.

    xdist's own groups are lost under pytest 9.2, which does not keep the names that xdist gives to tests.
    """
    from xdist.scheduler import LoadScopeScheduling

    class ByModuleAndEngine(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            module, _, test = nodeid.partition("::")
            return engine.group() if (engine := ENGINES.search(test)) else module

    return ByModuleAndEngine(config, log)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--servers", action="store_true", help="also test against real servers (make test-servers)")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Slow ones first: at the end, one process would wait for the other. Real servers only where they are asked for."""
    if not config.getoption("--servers"):
        for item in items:
            if item.get_closest_marker("servers"):
                item.add_marker(pytest.mark.skip(reason="real servers start when asked for: make test-servers"))
    items.sort(key=lambda item: item.get_closest_marker("slow") is None)


# For processes whose answers are looked at and whose speed is not. PyTorch would trace for seconds in each.
QUICK_COMPILES = {"XLA_FLAGS": os.environ["XLA_FLAGS"], "TORCHDYNAMO_DISABLE": "1" if QUICK else "0"}


def environment_of_users(**variables: str) -> dict[str, str]:
    """This process's environment without what the tests have set for themselves."""
    theirs = {"XLA_FLAGS": FLAGS_OF_USERS, "TORCH_COMPILE_OVERRIDE_BACKENDS": BACKENDS_OF_USERS}
    return os.environ | {"JAX_PLATFORMS": "cpu"} | theirs | variables


def call_cli(*arguments: str, cwd: Path = ROOT, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run the command line in this process: exit code and output of its entry point, without a process's start.

    What it starts as a process (kernels, servers) compiles as quickly as the tests do. Which devices the frameworks
    see is asked once for all calls.
    """
    from scorematrix.cli import main

    out, err = io.StringIO(), io.StringIO()
    with pytest.MonkeyPatch.context() as patch, pytest.raises(SystemExit) as ended:
        for name, value in ({"JAX_PLATFORMS": "cpu"} | variables).items():
            patch.setenv(name, value)
        patch.chdir(cwd)
        patch.setattr(sys, "argv", ["scorematrix", *arguments])
        patch.setattr("scorematrix.readiness.devices._framework_devices", frameworks_here())
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            main()
    return subprocess.CompletedProcess(list(arguments), ended.value.code, out.getvalue(), err.getvalue())


@functools.cache
def frameworks_here() -> Callable[[set[str]], dict]:
    """What `readiness` finds out by two processes that import a framework each: once a test process."""
    from scorematrix.readiness import devices

    ask = functools.cache(devices._framework_devices)
    return lambda wanted: ask(tuple(sorted(wanted)))


def run_cli(*arguments: str, cwd: Path = ROOT, python: str = sys.executable, **variables: str):
    """Run the command line in a process of its own, as a user does; `call_cli` is faster where that is not tested."""
    command = [python, "-m", "scorematrix", *arguments]
    environment = environment_of_users(**variables)
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=1000)


def report_of(run: Path, ending: str = "html") -> str:
    """The one report that a run folder holds; its name says whether it is partial."""
    (path,) = run.glob(f"report*.{ending}")
    text = path.read_text()
    assert ("PARTIAL" in path.name) == ("<title>PARTIAL" in text if ending == "html" else text.startswith("# PARTIAL"))
    return text


@pytest.fixture
def without_page(monkeypatch: pytest.MonkeyPatch) -> None:
    """Commands write their report without executing its notebook: for tests that do not look at the page."""
    from scorematrix.report import export

    monkeypatch.setattr(export, "execute_notebook", lambda *_, **__: None)
    monkeypatch.setattr(export, "export_html", lambda _, comparison: f"<title>{export.title(comparison)}</title>")


@pytest.fixture
def rounds_here(quick_collections: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Rounds of numpy's scorers run in this process, each in its group's thread: for tests that do not look at kernels,
    of two seconds each.
    """
    monkeypatch.setattr("scorematrix.matrix.group.execute_notebook", execute_here)
    with mock.patch.dict(os.environ):
        yield


@pytest.fixture
def report_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """Reports' notebooks run in this process: for tests that look at the page, however it was made."""
    monkeypatch.setattr("scorematrix.report.export.execute_notebook", execute_here)


@pytest.fixture
def quick_collections() -> Iterator[None]:
    """Leave what is loaded out of garbage collections: a pass begins with one, a third of a second in this process."""
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.fixture
def inductor(monkeypatch: pytest.MonkeyPatch) -> None:
    """PyTorch compiles in this process as it does for users."""
    monkeypatch.setenv("TORCH_COMPILE_OVERRIDE_BACKENDS", BACKENDS_OF_USERS)


@pytest.fixture(scope="session")
def smollm2() -> Model:
    try:
        return load_model("smollm2-135m")
    except ModelUnavailable as error:
        pytest.skip(f"the embedded model cannot be had: {error}")


@pytest.fixture(scope="session", params=[f"tiny-{name}" for name in ARCHITECTURES])
def tiny(request: pytest.FixtureRequest) -> Model:
    return load_model(f"random:{request.param}", seed=11)


@pytest.fixture(scope="session")
def real_run(tmp_path_factory: pytest.TempPathFactory, smollm2: Model) -> Path:
    """A finished small run of the real model, with its report; JAX compiles, PyTorch does not."""
    folder = tmp_path_factory.mktemp("real")
    run = ("run", str(FIXTURES / "real.yaml"), "--run-id", "real", "--report")
    done = run_cli(*run, cwd=folder, TORCHDYNAMO_DISABLE="1")
    assert done.returncode == 0, done.stdout + done.stderr
    (folder / "stdout.txt").write_text(done.stdout)
    return folder / "outputs" / "runs" / "real"
