"""A real Ray cluster of three nodes on this machine: a small real plan, a driver that is killed, a node that is."""

from __future__ import annotations

import os
import re
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import psutil
import pytest
import ray
from ray.cluster_utils import Cluster

from scorematrix.cluster import Node, demand, nodes_for
from scorematrix.cluster.connect import connected, living_nodes
from scorematrix.cluster.fleet import Fleet
from scorematrix.cluster.run import NodesLost, fill_on_cluster
from scorematrix.cluster.survey import Pool
from scorematrix.compare import Comparison, compare_run
from scorematrix.matrix import load_params, needed_targets, plan_rounds, prepare_run
from scorematrix.matrix.plan import plan_groups
from scorematrix.readiness import check_readiness, probe_machine, target
from scorematrix.results import Round, RunStore
from scorematrix.servers.client.launched import free_port
from tests.conftest import FIXTURES, environment_of_users, real_time, run_cli
from tests.processes import KERNEL, running

pytestmark = [pytest.mark.slow, pytest.mark.chaos]
COMPARISONS = (
    "[{numpy: cpu, numpy-per-item: cpu}, {numpy: tpu-v6e-1, numpy-per-item: gpu-g4}, "
    "{numpy: tpu-v5e-1, numpy-per-item: gpu-g4}]"
)
COMMAND = ("run", str(FIXTURES / "numpy.yaml"), "--run-id", "r", "--set", f"comparisons={COMPARISONS}")
N_ROUNDS = 7
SMALL = {"object_store_memory": 80 << 20, "include_dashboard": False, "num_cpus": 1}
ENDED = re.compile(r"^\[\d+/\d+\] (\S+) \w+ on node (\w+)", re.MULTILINE)


class SmallCluster:
    """Three nodes: two that are plain, and one that declares chips which it has not."""

    def __init__(self) -> None:
        self.client_port = free_port()
        head = SMALL | {"ray_client_server_port": self.client_port}
        self._cluster = Cluster(initialize_head=True, head_node_args=head)
        self.plain = self._cluster.add_node(**SMALL)
        self.special = self._cluster.add_node(**SMALL | {"num_gpus": 1, "resources": {"TPU-v6e-1": 1}})
        self.address = self._cluster.address

    def kill(self, node: ray._private.node.Node) -> None:
        self._cluster.remove_node(node, allow_graceful=False)

    def close(self) -> None:
        self._cluster.shutdown()


def descendants() -> list[psutil.Process]:
    return psutil.Process().children(recursive=True)


@pytest.fixture(scope="module")
def cluster() -> Iterator[SmallCluster]:
    before = {process.pid for process in descendants()}
    folder = tempfile.mkdtemp(prefix="r-", dir="/tmp")  # a socket's path is short
    kept = dict(os.environ)
    os.environ |= environment_of_users(RAY_USAGE_STATS_ENABLED="0", RAY_TMPDIR=folder)
    os.environ |= {"RAY_enable_worker_prestart": "0", "RAY_prestart_worker_first_driver": "0"}  # 4 s of processor each
    os.environ["RAY_CLIENT_SERVER_CHECK_CHANNEL_TIMEOUT_S"] = "300"  # how long a client's server may take to start
    os.environ |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(16)}  # nobody else gets in
    ray._raylet.Config.initialize("")  # read on import, which may be long ago
    try:
        made = started_cluster(before)
        yield made
        ours = started_since(before)
        made.close()
        _, alive = psutil.wait_procs(ours, timeout=20)
        assert not alive, f"Ray left {[process.name() for process in alive]} behind"
    finally:
        kill(started_since(before))
        os.environ.clear()
        os.environ |= kept
        ray._raylet.Config.initialize("")
        shutil.rmtree(folder, ignore_errors=True)


def started_cluster(before: set[int], tries: int = 3) -> SmallCluster:
    """On a busy machine a node may take longer to start than Ray waits for it."""
    while True:
        try:
            return SmallCluster()
        except Exception:
            kill(started_since(before))
            if not (tries := tries - 1):
                raise


def started_since(before: set[int]) -> list[psutil.Process]:
    """Workers are children of raylets, and once those have ended nobody's."""
    return [process for process in descendants() if process.pid not in before]


def kill(processes: list[psutil.Process]) -> None:
    for process in processes:
        process.kill()
    psutil.wait_procs(processes, timeout=20)


def kernels(node: ray._private.node.Node) -> list[psutil.Process]:
    """The processes that measure on a node now."""
    (raylet,) = node.all_processes["raylet"]
    return running(KERNEL, under=raylet.process.pid)


@dataclass(frozen=True)
class Story:
    """What is left of the run whose driver and node were killed.

    Attributes:
        first: the round files that the killed driver left.
        output: what its successor printed.
    """

    run: Path
    first: dict[str, bytes]
    output: str
    killed: str

    @property
    def rounds(self) -> list[Round]:
        return RunStore(self.run).rounds()


def files(run: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (run / "rounds").glob("*.json")}


def driver(folder: Path, address: str) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, "-m", "scorematrix", *COMMAND, "--on", "ray"], cwd=folder, text=True,
        env=environment_of_users(RAY_ADDRESS=address, COLUMNS="200"), stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip


def until(process: subprocess.Popen, ends: int) -> str:
    """What it prints up to so many finished rounds."""
    said = ""
    while len(ENDED.findall(said)) < ends and (line := process.stdout.readline()):
        said += line
    assert len(ENDED.findall(said)) == ends, said
    return said


@pytest.fixture(scope="module")
def story(cluster: SmallCluster, tmp_path_factory: pytest.TempPathFactory) -> Story:
    folder = tmp_path_factory.mktemp("cluster")
    run = folder / "outputs" / "runs" / "r"
    first = driver(folder, cluster.address)
    until(first, 1)
    first.send_signal(signal.SIGKILL)
    first.wait()
    left = files(run)
    second = driver(folder, cluster.address)
    output = until(second, 1)
    while not kernels(cluster.plain):
        assert second.poll() is None, "it ended before that node had a pair"
        time.sleep(0.1)
    killed = cluster.plain.node_id
    cluster.kill(cluster.plain)
    output += second.stdout.read()
    assert second.wait() == 0, output
    return Story(run, left, output, killed[:8])


def test_every_round_is_there_and_finished_ones_stay(story: Story) -> None:
    assert len(story.rounds) == N_ROUNDS
    assert all(cell.status == "ok" for round_ in story.rounds for cell in round_.cells)
    assert story.first and run_cli("validate", str(story.run)).returncode == 0
    notebooks = {path.stem.removeprefix("02_score_matrix.") for path in (story.run / "notebooks").glob("*.ipynb")}
    assert {f"{round_.name}" for round_ in story.rounds} <= notebooks
    left = [p.name for p in story.run.rglob(".*") if p.name != ".lock"]
    assert left == [] and not (story.run / "drafts").exists()


def test_the_lost_pair_is_measured_anew_and_says_so(story: Story) -> None:
    lost = {round_.name: round_.lost for round_ in story.rounds if round_.lost}
    assert lost and "lost with node" in story.output
    for name, tries in lost.items():
        assert [one.node for one in tries] == [story.killed], name
    where = dict(ENDED.findall(story.output))
    groups = [{planned.name for planned in group} for group in plan_groups(load_params(FIXTURES / "numpy.yaml"))]
    assert set(lost) in groups, "one group was in flight there"
    assert story.killed not in {where[name] for name in lost}


def test_pairs_lie_on_one_node_and_groups_on_a_node_do_not_overlap(story: Story) -> None:
    where = dict(ENDED.findall(story.output))  # by name: the last place, where it was measured for good
    by_pair: dict[tuple, set[str]] = {}
    by_node: dict[str, list[Round]] = {}
    for round_ in story.rounds:
        if round_.name in where:
            by_pair.setdefault((round_.index, round_.view, round_.target), set()).add(where[round_.name])
            by_node.setdefault(where[round_.name], []).append(round_)
    assert all(len(nodes) == 1 for nodes in by_pair.values()), by_pair
    assert len(by_node) >= 1
    for rounds in by_node.values():
        groups: dict[str, list[Round]] = {}
        for round_ in rounds:  # those of a group are alive at the same time and measure in turns
            groups.setdefault(round_.group or round_.name, []).append(round_)
        spans = sorted((min(r.started_utc for r in own), max(r.finished_utc for r in own)) for own in groups.values())
        assert all(end <= begin for (_, end), (begin, _) in pairwise(spans))
        assert any(len(own) > 1 for own in groups.values())


def test_a_lacking_target_is_skipped_with_evidence(story: Story) -> None:
    states = {(s.target, s.backend): s for s in RunStore(story.run).readiness().states}
    evidence = {
        ("cpu", "numpy"): ("ready", None, "2 nodes"),
        ("tpu-v5e-1", "numpy"): ("skipped", "no_device", "the Ray cluster has 3 nodes"),  # declared by nobody
        ("tpu-v6e-1", "numpy"): ("skipped", "no_device", "no /dev/accel*"),  # declared, and not there
        ("gpu-g4", "numpy-per-item"): ("skipped", "no_device", "nvidia-smi"),
    }
    for pair, (state, reason, words) in evidence.items():
        assert (states[pair].state, states[pair].reason) == (state, reason), states[pair]
        assert words in states[pair].evidence
    assert "TPU-v6e-1 1" in states["tpu-v5e-1", "numpy"].evidence, "the cluster's resources"


def test_it_is_the_comparison_of_a_local_run(story: Story, tmp_path: Path) -> None:
    done = run_cli(*COMMAND, cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    local, fanned = tmp_path / "outputs" / "runs" / "r", story.run
    ours, theirs = (RunStore(run) for run in (local, fanned))
    for one, other in zip(ours.rounds(), theirs.rounds(), strict=True):
        assert one.name == other.name
        for a, b in zip(one.cells, other.cells, strict=True):
            assert (a.chunk_size, a.status, a.scores) == (b.chunk_size, b.status, b.scores)
    judged = [compare_run(s.manifest(), s.workload(), s.readiness(), s.rounds()) for s in (ours, theirs)]
    assert summary(judged[0]) == summary(judged[1])


def summary(found: Comparison) -> dict:
    """A comparison without what hangs on its times."""
    timed = re.compile("steady|physics|growth|cache|choice|clocks|threads|interference|drawn tokens' time")
    return {
        "contrasts": [
            (c.kind, c.view, c.verdict, [(g.name, g.status) for g in c.gates if not timed.match(g.name)])
            for c in found.contrasts
        ],
        "sides": [(s.backend, s.view, s.target, s.state, [c.chunk_size for c in s.chunks]) for s in found.sides],
    }  # fmt: skip


@real_time  # Ray gives a client's first connection so many seconds
def test_a_driver_outside_the_cluster_measures_through_rays_client(cluster: SmallCluster, tmp_path: Path) -> None:
    client = f"ray://127.0.0.1:{cluster.client_port}"
    shutil.rmtree(tmp_path / "outputs", ignore_errors=True)
    done = run_cli(*COMMAND, "--only", "numpy", "--on", client, cwd=tmp_path, RAY_ADDRESS="")
    assert done.returncode == 0, done.stdout + done.stderr
    rounds = RunStore(tmp_path / "outputs" / "runs" / "r").rounds()
    assert len(rounds) == len(ENDED.findall(done.stdout)) > 0
    assert all(cell.status == "ok" for round_ in rounds for cell in round_.cells)


def test_a_round_goes_to_the_node_that_declares_its_target(cluster: SmallCluster, tmp_path: Path) -> None:
    """The chip is fake, so the round fails; where it failed is what counts. A dead target's rounds are given up."""
    params = load_params(FIXTURES / "tiny.yaml", {"chunk_sizes": [8], "controls": False})
    store = RunStore(tmp_path / "run")
    prepare_run(params, store)
    events = []
    with connected_to(cluster), store.lock():
        special = [node for node in living_nodes() if "TPU-v6e-1" in node.resources]
        assert nodes_for(living_nodes(), target("tpu-v6e-1")) == special and len(special) == 1
        planned = next(p for p in plan_rounds(params) if p.target == "tpu-v6e-1" and p.backend == "jax")
        with Fleet(params, store, [], None, {}, 0.1, dict, events.append) as fleet:
            fleet.take({planned.target: pool(special[0])}, {}, 1, {})
            fleet.fill([[planned]])
            gone = Node("f" * 56, special[0].resources)
            fleet.take({planned.target: pool(gone)}, {}, 1, {})
            fleet.fill([[planned]])
    assert [(e.state, e.note) for e in events] == [(s, f"node {special[0].name}") for s in ("begin", "end")]
    assert events[-1].round.error and events[-1].round.cells[0].status == "not_run"
    assert fleet.given_up and "tpu-v6e-1" in fleet.given_up[0]


def test_a_run_whose_last_node_is_gone_says_so_and_can_go_on(
    cluster: SmallCluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    params = load_params(
        FIXTURES / "tiny.yaml", {"chunk_sizes": [8], "comparisons": [{"jax": "cpu", "pytorch": "cpu"}]}
    )
    readiness = check_readiness(needed_targets(params), probe_machine(), "made up")
    gone = Pool("cpu", "a kind of its own", {"CPU": 1}, {"f" * 56: "m"}, frozenset({"jax", "pytorch"}))
    monkeypatch.setattr("scorematrix.cluster.run.PATIENCE_SECONDS", 0.1)
    monkeypatch.setattr("scorematrix.cluster.run.living_nodes", list)
    monkeypatch.setattr("scorematrix.cluster.run.survey_cluster", lambda *_: (readiness, {"cpu": gone}))
    store = RunStore(tmp_path / "run")
    with connected_to(cluster), pytest.raises(NodesLost, match="cpu "):
        fill_on_cluster(params, store)
    assert store.rounds() == [] and len(store.manifest().plan) > 1 and not store.in_use()


def pool(node: Node) -> Pool:
    return Pool("tpu-v6e-1", "any", demand(node, target("tpu-v6e-1")), {node.id: "m"}, frozenset({"jax"}))


def connected_to(cluster: SmallCluster):
    os.environ["RAY_ADDRESS"] = cluster.address
    return connected("ray")
