"""The plan is pure, seeded, and randomised within each pair."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest

from scorematrix.matrix import Params, chunk_order, load_params, needed_targets, plan_rounds, together
from scorematrix.matrix.group import lost_round
from scorematrix.matrix.plan import plan_groups
from scorematrix.matrix.together import parts_of, polling_before
from scorematrix.matrix.workloads import build_workload
from scorematrix.results import RunStore
from scorematrix.results.status import one_reference
from tests.factory import make_params, make_workload, write_run

QUICK = Path(__file__).parents[2] / "params" / "quick.yaml"
WORKLOAD = make_workload()


@pytest.fixture(autouse=True)
def much_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """What fits must not depend on what else this machine does."""
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(available=10**12))


def test_same_seed_same_plan() -> None:
    assert plan_rounds(make_params(seed=1)) == plan_rounds(make_params(seed=1))
    assert plan_rounds(make_params(seed=1)) != plan_rounds(make_params(seed=2))


def test_pairs_run_back_to_back() -> None:
    params = make_params(rounds=9, controls=False)
    plan = [p for p in plan_rounds(params) if p.target == "cpu" and p.role != "reference"]
    for first, second in zip(plan[::2], plan[1::2], strict=True):
        assert first.index == second.index and {first.backend, second.backend} == {"jax", "pytorch"}
        assert second.position == first.position + 1


def test_who_goes_first_is_fair() -> None:
    """Each side goes before the other in half of the pairs whatever the seed; over many seeds, in all of them."""
    firsts: Counter[str] = Counter()
    for seed in range(40):
        params = make_params(seed=seed, rounds=9)
        cpu = [p for p in plan_rounds(params) if p.target == "cpu" and p.role == "confirm"]
        own = Counter(p.backend for p in cpu[::2])
        assert abs(own["jax"] - own["pytorch"]) == 1, "nine pairs"
        firsts += own
    assert 0.45 <= firsts["jax"] / firsts.total() <= 0.55


def test_names_are_unique_and_reference_comes_first() -> None:
    plan = plan_rounds(load_params(QUICK))
    assert len({p.name for p in plan}) == len(plan)
    assert [p.position for p in plan] == list(range(len(plan)))
    assert (plan[0].role, plan[0].backend, plan[0].view) == ("reference", "transformers", "per_item")


def test_quick_is_the_job_that_was_promised() -> None:
    params = load_params(QUICK)
    assert params.rounds >= 5 and len(params.chunk_sizes) >= 3 and params.model == "smollm2-135m"
    assert {choice.backend for choice in params.backends} >= {"jax", "pytorch"}
    assert {target for target, _, _ in needed_targets(params)} == {"cpu", "tpu-v6e-1", "gpu-g4"}


def test_chunk_order_varies_by_round_but_not_by_side() -> None:
    params = make_params(chunk_sizes=[1, 2, 4, 8])
    plan = [p for p in plan_rounds(params) if p.role in ("tuning", "confirm")]
    by_side = {name: [p for p in plan if p.backend == name] for name in ("jax", "pytorch")}
    orders = [tuple(chunk_order(params, planned)) for planned in by_side["jax"]]
    assert len(set(orders)) > 2 and all(sorted(order) == [1, 2, 4, 8] for order in orders)
    assert orders == [tuple(chunk_order(params, planned)) for planned in by_side["pytorch"]]


def test_the_reference_is_asked_in_short_calls(tmp_path: Path) -> None:
    """A call of 500 long items outlasts its limit. A lost reference is recorded with the one size that it has."""
    params = make_params(chunk_sizes=[100, 500])
    planned = plan_rounds(params)[0]
    assert planned.role == "reference" and chunk_order(params, planned) == [8]
    lost = lost_round(params, write_run(tmp_path / "run"), planned, "its node is gone", 0.0)
    assert [(cell.chunk_size, cell.status) for cell in lost.cells] == [(8, "failed")]


def test_a_view_may_have_chunk_sizes_of_its_own() -> None:
    backends = [{"backend": "jax", "chunk_sizes": {"portable": [2, 3]}}, {"backend": "pytorch"}]
    params = make_params(chunk_sizes=[1, 8], backends=backends, rounds=8)
    orders = {
        name: {
            tuple(sorted(chunk_order(params, p)))
            for p in plan_rounds(params)
            if p.backend == name and p.role != "control"
        }
        for name in ("jax", "pytorch")
    }
    assert orders == {"jax": {(2, 3)}, "pytorch": {(1, 8)}}


def test_controls_run_among_those_that_they_repeat() -> None:
    """One a target and index, each side in turn, at the largest chunk size, of the best view that there is."""
    backends = [{"backend": name, "views": ["portable", "best_native"]} for name in ("pytorch", "jax")]
    plan = plan_rounds(make_params(backends=backends))
    controls = [p for p in plan if p.role == "control"]
    on_cpu = {p.index: (p.backend, p.view) for p in controls if p.target == "cpu"}
    assert list(on_cpu) == [1, 2, 3, 4, 5] and {view for _, view in on_cpu.values()} == {"best_native"}
    assert all({on_cpu[i][0], on_cpu[i + 1][0]} == {"jax", "pytorch"} for i in range(1, 5)), "each in turn"
    assert {(p.backend, p.target) for p in controls if p.target != "cpu"} == {
        ("jax", "tpu-v6e-1"), ("pytorch", "gpu-g4")
    }  # fmt: skip
    for control in controls:
        together = [p for p in plan if (p.index, p.target, p.view) == (control.index, control.target, control.view)]
        assert max(abs(p.position - control.position) for p in together) <= 2
        assert chunk_order(make_params(backends=backends), control) == [8]
    firsts = {
        p.position < next(q.position for q in plan if q.role == "confirm" and q.name == p.name.replace("control.", ""))
        for p in controls
    }
    assert firsts == {True, False}, "the order is drawn"
    assert not [p for p in plan_rounds(make_params(controls=False)) if p.role == "control"]


@pytest.mark.parametrize(
    ("second", "reference", "targets"),
    [
        ("cpu", "transformers", ["cpu"]),
        ("gpu-g4", "transformers", ["gpu-g4", "cpu"]),  # of which a run needs one
        ("gpu-g4", "pytorch", ["gpu-g4", "cpu"]),
    ],
)
def test_the_cpu_computes_the_reference_where_the_second_side_cannot_run(
    second: str, reference: str, targets: list[str]
) -> None:
    params = make_params(comparisons=[{"jax": "tpu-v6e-1", "pytorch": second}], reference=reference)
    plan = plan_rounds(params)
    references, others = plan[: len(targets)], plan[len(targets) :]
    names = [p.name for p in references]
    assert [(p.role, p.target) for p in references] == [("reference", name) for name in targets]
    assert all(p.role != "reference" for p in others) and one_reference(others, names) == others
    for can_run, recorded, needed in [
        (names, [], names[:1]),
        (names, names[-1:], names[-1:]),
        (names, names, names[:1]),
        (names[-1:], [], names[-1:]),
    ]:
        kept = one_reference([*(p for p in references if p.name in can_run), *others], recorded)
        assert kept == [*(p for p in references if p.name in needed), *others]


def test_rounds_beyond_the_first_look_are_planned_beforehand() -> None:
    plan = plan_rounds(make_params(rounds=5, max_rounds=12))
    assert {p.index for p in plan if p.role == "confirm"} == set(range(1, 13))
    assert plan[: len(plan_rounds(make_params(rounds=5)))] == plan_rounds(make_params(rounds=5))


@pytest.mark.parametrize(
    ("free_gb", "sizes"), [(100, [5]), (9, [3, 1, 1]), (4, [1] * 5)], ids=["all", "the compared", "one at a time"]
)
def test_baselines_leave_the_turns_first_if_memory_is_short(
    free_gb: int, sizes: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    backends = [{"backend": "jax"}, {"backend": "pytorch"}, {"backend": "transformers", "views": ["packed"]},
                {"backend": "llama-cpp", "views": ["shared_prefix"]}]  # fmt: skip
    params = load_params(QUICK, {"backends": backends, "comparisons": [{"jax": "cpu", "pytorch": "cpu"}]})
    group = next(g for g in plan_groups(params) if g[0].index == 1 and len(g) > 1)
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(available=free_gb * 10**9))
    parts = parts_of(params, group, {}, WORKLOAD)
    assert [len(members) for members, _ in parts] == sizes
    assert sorted(p.name for members, _ in parts for p in members) == sorted(p.name for p in group)
    assert [reason is None for _, reason in parts] == [len(members) > 1 for members, _ in parts]


@pytest.mark.parametrize(
    ("where", "view", "fits"),
    [
        ("gpu-l4", "portable", False),  # every process stores the scores of 7,000 tokens
        ("gpu-h100", "portable", True),
        ("gpu-l4", "best_native", True),
    ],
)
def test_processes_share_a_gpu_if_its_memory_has_room(where: str, view: str, fits: bool) -> None:
    shape = {"kind": "canonical", "query_tokens": 2000, "n_items": 500, "item_tokens": 20, "label_ids": [1, 2]}
    params = make_params(
        model="random:qwen3-0.6b", dtype="bfloat16", workload=shape, chunk_sizes=[256],
        backends=[{"backend": "jax", "views": [view]}, {"backend": "pytorch", "views": [view]}],
        comparisons=[{"jax": where, "pytorch": where}],
    )  # fmt: skip
    group = next(g for g in plan_groups(params) if g[0].index == 1 and len(g) > 1)
    parts = parts_of(params, group, {}, build_workload(params))
    assert len(parts) == (1 if fits else len(group))
    reasons = {reason for _, reason in parts}
    assert reasons == {None} if fits else all(str(r).count(" GB ") == 1 and "GPU L4" in str(r) for r in reasons)


LAUNCH = {"launch": "serve {port}"}


def server_params(jax: dict, pytorch: dict, on: str = "cpu") -> Params:
    servers = {"sglang-jax": jax, "sglang": pytorch}
    backends = [{"backend": name, "views": ["server"], "server": place} for name, place in servers.items()]
    sides = [{"jax": on, "pytorch": on}]
    return load_params(QUICK, {"dtype": "float32", "backends": backends, "comparisons": sides, "controls": False})


@pytest.mark.parametrize(
    ("jax", "pytorch", "on", "reason"),
    [
        (LAUNCH, LAUNCH, "cpu", None),
        (LAUNCH, LAUNCH, "gpu-g4", "beside_others"),
        (LAUNCH | {"beside_others": True}, LAUNCH, "gpu-g4", "beside_others"),
        (LAUNCH | {"beside_others": True}, LAUNCH | {"beside_others": True}, "gpu-g4", None),
        (LAUNCH, LAUNCH | {"beside_others": False}, "cpu", "beside_others"),
        ({"url": "http://127.0.0.1:9"}, LAUNCH, "cpu", "processes cannot be told"),
        ({"url": "http://198.51.100.1:1"}, LAUNCH, "gpu-g4", None),
        ({"url": "http://198.51.100.1:1"}, {"url": "http://198.51.100.2:1"}, "tpu-v6e-1", None),
        (LAUNCH, LAUNCH, "tpu-v6e-1", "TPU"),
    ],
)
def test_servers_take_turns_where_all_have_room(jax: dict, pytorch: dict, on: str, reason: str | None) -> None:
    params = server_params(jax, pytorch, on)
    group = [p for p in plan_rounds(params) if p.index == 1]
    parts = parts_of(params, group, {}, WORKLOAD)
    assert sorted(p.name for members, _ in parts for p in members) == sorted(p.name for p in group)
    assert len(parts) == (1 if reason is None else 2)
    assert all(why is None if reason is None else reason in str(why) for _, why in parts)


def test_a_server_that_works_while_it_waits_is_measured_alone_from_then_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = ("sglang-jax", "vllm", "sglang")
    backends = [{"backend": name, "views": ["server"], "server": LAUNCH} for name in names]
    sides = {"comparisons": [{"jax": "cpu", "pytorch": "cpu"}], "controls": False}
    params = load_params(QUICK, {"dtype": "float32", "backends": backends} | sides)
    group = [p for p in plan_rounds(params) if p.index == 1]
    polling, others = [p for p in group if p.backend == "vllm"], [p for p in group if p.backend != "vllm"]
    shares = {p.name: 0.96 if p.backend == "vllm" else 0.01 for p in group}
    monkeypatch.setattr(together, "waiting_shares", lambda _: shares)
    with pytest.raises(together.ComputesWhileWaiting) as found:
        together.check_waiting(params, group, {})
    assert list(found.value.reasons) == ["vllm"] and "96%" in str(found.value)
    together.check_waiting(params, group[:1], {})  # it has nobody to disturb
    store, recorded = RunStore(tmp_path / "r"), []
    monkeypatch.setattr(RunStore, "rounds", lambda _: recorded)
    assert parts_of(params, group, polling_before(store), WORKLOAD) == [(group, None)]
    recorded += [SimpleNamespace(backend="sglang", alone_because=None)]
    recorded += [SimpleNamespace(backend=name, alone_because=str(found.value)) for name in ("vllm", "sglang-jax")]
    assert parts_of(params, group, polling_before(store), WORKLOAD) == [(others, None), (polling, str(found.value))]
    pair = [*polling, others[0]]
    reason = str(found.value)
    assert parts_of(params, pair, polling_before(store), WORKLOAD) == [([others[0]], reason), (polling, reason)]


@pytest.mark.parametrize(
    ("place", "ways"),
    [
        (LAUNCH, {"spinning", "passive"}),
        (LAUNCH | {"variables": {"OMP_WAIT_POLICY": "active"}}, {None}),
        ({"url": "http://a:1"}, {None}),
    ],
)
def test_tuning_tries_how_the_threads_of_a_launched_server_wait(place: dict, ways: set) -> None:
    plan = plan_rounds(server_params(LAUNCH, place))
    assert {p.waiting for p in plan if p.role == "tuning" and p.backend == "sglang"} == ways
    assert {p.waiting for p in plan if p.role == "tuning" and p.backend == "sglang-jax"} == {None}
