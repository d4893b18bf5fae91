"""Which node serves which target, what a cluster is ready for, and in which pairs a plan goes there: from tables."""

from __future__ import annotations

import pytest

import scorematrix
from scorematrix.cluster import Node, demand, nodes_for
from scorematrix.cluster.nodes import describe, read_nodes
from scorematrix.cluster.run import stages
from scorematrix.cluster.survey import misfit, survey_cluster
from scorematrix.cluster.worker import NodeReport
from scorematrix.matrix import needed_targets, plan_rounds
from scorematrix.matrix.orchestrate import groups_of
from scorematrix.readiness import Machine, check_readiness, target
from scorematrix.readiness.devices import FrameworkDevices
from scorematrix.results import Attempt, TargetRecord
from tests.factory import CPU_ONLY, make_params

PLAIN = {"CPU": 8.0, "memory": 1e9, "node:10.0.0.1": 1.0}
NODES = {
    # resources: what a round of (cpu, tpu-v6e-1, gpu-g4) takes of the node
    "plain": (PLAIN, {"CPU": 8.0}, None, None),
    "a head that measures nothing": ({"CPU": 0.0, "node:__internal_head__": 1.0}, None, None, None),
    "declared by a custom resource": (PLAIN | {"TPU-v6e-1": 1.0}, {"CPU": 8.0},
                                      {"CPU": 8.0, "TPU-v6e-1": 1.0}, None),
    "a TPU as Ray finds it": (PLAIN | {"TPU": 1.0, "accelerator_type:TPU-V6E": 1.0}, {"CPU": 8.0},
                              {"CPU": 8.0, "TPU": 1.0}, None),
    "a TPU of another kind": (PLAIN | {"TPU": 4.0, "accelerator_type:TPU-V4": 1.0}, {"CPU": 8.0}, None, None),
    "declared, and found": (PLAIN | {"tpu-v6e-1": 1.0, "TPU": 1.0}, {"CPU": 8.0},
                            {"CPU": 8.0, "tpu-v6e-1": 1.0, "TPU": 1.0}, None),
    "a GPU by its type": (PLAIN | {"GPU": 2.0, "accelerator_type:RTX-PRO-6000": 1.0}, {"CPU": 8.0}, None,
                          {"CPU": 8.0, "GPU": 1.0}),
    "a GPU of another type": (PLAIN | {"GPU": 1.0, "accelerator_type:L4": 1.0}, {"CPU": 8.0}, None, None),
    "a GPU that Ray does not know": (PLAIN | {"GPU": 1.0}, {"CPU": 8.0}, None, {"CPU": 8.0, "GPU": 1.0}),
}  # fmt: skip


@pytest.mark.parametrize("case", NODES)
def test_what_a_round_takes_of_a_node(case: str) -> None:
    resources, *expected = NODES[case]
    node = Node("a" * 56, resources)
    for name, due in zip(("cpu", "tpu-v6e-1", "gpu-g4"), expected, strict=True):
        asked = demand(node, target(name))
        assert asked == due, "the whole host, and one chip"


@pytest.mark.parametrize(
    ("chips", "due"),
    [
        ({"TPU": 4.0, "accelerator_type:TPU-V6E": 1.0}, {"CPU": 8.0, "TPU": 4.0}),
        ({"TPU": 1.0, "accelerator_type:TPU-V6E": 1.0}, None),
        ({"TPU": 4.0, "accelerator_type:TPU-V5LITEPOD": 1.0}, None),
        ({"tpu-v6e-4": 1.0, "TPU": 4.0}, {"CPU": 8.0, "tpu-v6e-4": 1.0, "TPU": 4.0}),
    ],
)
def test_a_target_of_several_chips_takes_them_all(chips: dict, due: dict | None) -> None:
    assert demand(Node("a" * 56, PLAIN | chips), target("tpu-v6e-4")) == due


def test_the_cpu_is_measured_where_no_accelerator_is() -> None:
    plain, gpu = Node("a", PLAIN), Node("b", PLAIN | {"GPU": 1.0})
    tpu = Node("c", PLAIN | {"TPU-v6e-1": 1.0})
    assert nodes_for([plain, gpu, tpu], target("cpu")) == [plain]
    assert nodes_for([gpu, tpu], target("cpu")) == [gpu, tpu], "better than nowhere"


def test_only_living_nodes_count_and_hosts_are_not_told() -> None:
    table = [
        {"NodeID": "b", "Alive": True, "Resources": PLAIN},
        {"NodeID": "a", "Alive": False, "Resources": {}},
        {"NodeID": "c", "Alive": True, "Resources": PLAIN | {"TPU-v6e-1": 1.0}},
    ]
    nodes = read_nodes(table)
    assert [node.id for node in nodes] == ["b", "c"]
    assert describe(nodes) == "the Ray cluster has 2 nodes: 1 x (CPU 8); 1 x (CPU 8, TPU-v6e-1 1)"
    assert describe([]) == "the Ray cluster is empty"


V6E = Machine(
    nvidia=(), nvidia_evidence="nvidia-smi is not on PATH", has_tpu=True, tpu_evidence="device nodes /dev/vfio/0",
    frameworks={"jax": FrameworkDevices((("tpu", "TPU v6 lite"),)), "pytorch": FrameworkDevices(())},
)  # fmt: skip
NEEDED = needed_targets(make_params())


def report(machine: Machine, name: str, make: str = "Test CPU, 8 cores", only=None) -> NodeReport:
    states = check_readiness(NEEDED, machine, "", only).states
    return NodeReport(scorematrix.__version__, make, name * 64, states)


PLAIN_NODES = [Node(name * 56, PLAIN) for name in "abc"]
TPU_NODE = Node("d" * 56, PLAIN | {"TPU-v6e-1": 1.0})


def test_alike_nodes_make_a_pool_and_a_lacking_target_is_told_by_the_clusters_resources() -> None:
    nodes = [*PLAIN_NODES, TPU_NODE]
    reports = {node: report(CPU_ONLY, node.id[0]) for node in PLAIN_NODES} | {TPU_NODE: report(V6E, "d")}
    reports[PLAIN_NODES[0]] = report(CPU_ONLY, "a", make="Other CPU, 8 cores")
    readiness, pools = survey_cluster(NEEDED, nodes, reports)
    assert set(pools) == {"cpu", "tpu-v6e-1"}
    assert set(pools["cpu"].machines) == {"b" * 56, "c" * 56}, "the most numerous kind; the other CPU is left out"
    assert dict(pools["tpu-v6e-1"].demand) == {"CPU": 8.0, "TPU-v6e-1": 1.0}
    states = {(s.target, s.backend): s for s in readiness.states}
    assert states["cpu", "jax"].state == "ready" and states["cpu", "jax"].evidence.startswith("2 nodes, bbbbbbbb")
    assert states["tpu-v6e-1", "jax"].state == "ready"
    gpu = states["gpu-g4", "pytorch"]
    assert (gpu.state, gpu.reason) == ("skipped", "no_device")
    assert gpu.evidence == describe(nodes) and "TPU-v6e-1 1" in gpu.evidence and "gpu-g4" in gpu.next_step
    assert pools["cpu"].takes(Node("e" * 56, PLAIN), report(CPU_ONLY, "e")), "a node that comes later"
    assert not pools["cpu"].takes(Node("e" * 56, PLAIN | {"CPU": 4.0}), report(CPU_ONLY, "e"))


UNFIT = {
    # what the one node for the TPU said: reason, words of the evidence
    "it claims a TPU that it has not": (report(CPU_ONLY, "d"), "no_device", "node dddddddd: no /dev/accel*"),
    "no scorematrix there": ("ModuleNotFoundError: No module named 'scorematrix'", "not_installed", "ModuleNotFound"),
    "it did not answer": ("it did not answer within 600 s, another job may hold it", "not_installed", "another job"),
}


@pytest.mark.parametrize("case", UNFIT)
def test_a_node_that_cannot_keep_its_word_is_a_skip(case: str) -> None:
    said, reason, words = UNFIT[case]
    reports = {node: report(CPU_ONLY, node.id[0]) for node in PLAIN_NODES} | {TPU_NODE: said}
    readiness, pools = survey_cluster(NEEDED, [*PLAIN_NODES, TPU_NODE], reports)
    state = readiness.state("tpu-v6e-1", "jax")
    assert (state.state, state.reason) == ("skipped", reason) and words in state.evidence and state.next_step
    assert set(pools) == {"cpu"}


def test_a_cluster_without_a_node_that_measures_lacks_even_the_cpu() -> None:
    readiness, pools = survey_cluster(NEEDED, [Node("h", {"CPU": 0.0})], {})
    assert pools == {} and {state.reason for state in readiness.states} == {"no_device"}
    assert readiness.state("cpu", "jax").evidence == "the Ray cluster has 1 node: 1 x (CPU 0)"


def test_what_was_tried_and_what_was_left_out_stand_first() -> None:
    attempt = Attempt(at_utc="2026-01-01", zone="us-east5-b", machine_type="ct6e", outcome="refused",
                      text="Quota 'TPUS_V6E' exceeded. Limit: 0.0 in region us-east5.")  # fmt: skip
    tried = {"tpu-v6e-1": TargetRecord(target="tpu-v6e-1", attempts=[attempt])}
    reports = {node: report(CPU_ONLY, node.id[0], only=["jax"]) for node in PLAIN_NODES}
    readiness, pools = survey_cluster(NEEDED, PLAIN_NODES, reports, ["jax"], tried)
    assert readiness.state("tpu-v6e-1", "jax").reason == "quota"
    assert readiness.state("gpu-g4", "pytorch").reason == "by_user"
    assert pools["cpu"].backends == {"jax"}


def test_both_ends_are_of_one_version() -> None:
    sound = report(CPU_ONLY, "a")
    assert misfit(sound) is sound
    old = NodeReport("0.0.1", sound.make, sound.machine_sha256, sound.states)
    assert "scorematrix 0.0.1" in misfit(old) and scorematrix.__version__ in misfit(old)


def test_pairs_keep_the_plans_order_and_looks_cut_it() -> None:
    params = make_params(rounds=2, max_rounds=4)
    todo = [planned for planned in plan_rounds(params) if planned.target == "cpu"]
    cut = stages(params, groups_of(params, todo))
    assert [planned for _, stage in cut for pair in stage for planned in pair] == todo
    for _, stage in cut:
        for pair in stage:
            assert len({(p.target, p.view, p.index) for p in pair}) == 1
    assert [index for index, _ in cut] == [2, 3, 4], "one stage up to the first look, then one an index"
    backends = [sorted(p.backend for p in pair) for _, stage in cut for pair in stage if pair[0].index > 0]
    assert all(set(pair) == {"jax", "pytorch"} and len(pair) == 3 for pair in backends), "with their control"
