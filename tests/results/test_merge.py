"""Runs of one plan from several machines become one; what does not belong together is refused, nothing is touched."""

from __future__ import annotations

import itertools
import json
import shutil
from pathlib import Path

import pytest

from scorematrix.compare import compare_run
from scorematrix.readiness import Machine
from scorematrix.readiness.devices import FrameworkDevices
from scorematrix.results import Manifest, RunStore, merge_runs, write_document
from tests.conftest import call_cli, report_of
from tests.factory import changed, equal_seconds, make_params, write_run

ACCELERATORS = {"comparisons": [{"jax": "tpu-v6e-1", "pytorch": "gpu-g4"}]}


def machine(name: str) -> Machine:
    """A TPU VM has JAX only, a GPU VM both."""
    tpu, gpu = name == "tpu", name == "gpu"
    cards = (("gpu", "NVIDIA RTX PRO 6000"),) if gpu else ()
    return Machine(
        nvidia=("NVIDIA RTX PRO 6000",) if gpu else (),
        nvidia_evidence="nvidia-smi lists it" if gpu else "nvidia-smi is not on PATH",
        has_tpu=tpu,
        tpu_evidence="device nodes /dev/vfio/0" if tpu else "no /dev/accel* device node",
        frameworks={
            "jax": FrameworkDevices((("tpu", "TPU v6 lite"),) if tpu else cards),
            "pytorch": FrameworkDevices(cards),
        },
    )  # fmt: skip


def seconds(backend: str, index: int, chunk: int) -> float:
    return equal_seconds(backend, index, chunk) * (0.5 if backend == "jax" else 1.0)


def recorded(folder: Path, name: str, **options) -> RunStore:
    options = {"params": make_params(**ACCELERATORS), "seconds": seconds, "machine": machine(name)} | options
    return write_run(folder / "outputs" / "runs" / name, **options)


def comparison_of(store: RunStore):
    return compare_run(store.manifest(), store.workload(), store.readiness(), store.rounds())


def contents(store: RunStore) -> dict[str, str]:
    return {p.relative_to(store.folder).as_posix(): p.read_text() for p in store.folder.rglob("*.json")}


@pytest.mark.usefixtures("report_here")
def test_the_skip_stands_until_the_rounds_arrive(tmp_path: Path) -> None:
    tpu, gpu = recorded(tmp_path, "tpu"), recorded(tmp_path, "gpu")
    before = comparison_of(tpu)
    assert before.partial and [c.verdict for c in before.contrasts] == ["deferred"]
    assert [n.target for n in before.notices] == ["gpu-g4"]
    assert all(s.max_difference is not None for s in before.sides if s.n_rounds), "its CPU computed the reference"
    done = call_cli("report", "tpu", "--merge", "gpu", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "gpu: 12 " in done.stdout and "COMPLETE" in done.stdout
    after = comparison_of(tpu)
    assert {r.target for r in tpu.rounds() if r.role == "reference"} == {"cpu", "gpu-g4"}
    assert not after.partial and after.notices == [] and after.contrasts[0].verdict == "jax"
    assert after.contrasts[0].sentence.startswith("System comparison")
    page = report_of(tpu.folder)
    assert "SKIPPED" not in page and "<title>PARTIAL" not in page
    assert len(gpu.rounds()) == 12, "the other run is as it was"


def test_the_same_round_twice_is_recognised(tmp_path: Path) -> None:
    tpu, gpu = recorded(tmp_path, "tpu"), recorded(tmp_path, "gpu")
    merge_runs(tpu, [gpu])
    once = contents(tpu)
    said = merge_runs(tpu, [gpu, gpu])
    assert all(line.startswith("gpu: 0 ") and " 12 " in line for line in said) and len(said) == 2
    assert {k: v for k, v in contents(tpu).items() if "rounds" in k} == {k: v for k, v in once.items() if "rounds" in k}


def test_order_does_not_matter(tmp_path: Path) -> None:
    """Rounds of a plan split over three folders, merged in every order and into each of them."""
    found = []
    for number, order in enumerate(itertools.permutations(range(3))):
        folder = tmp_path / str(number)
        stores = [
            recorded(folder / "a", "tpu", keep=lambda p: p.index < 3),
            recorded(folder / "b", "tpu", keep=lambda p: p.index >= 3),
            recorded(folder / "c", "gpu"),
        ]
        into, *others = (stores[i] for i in order)
        merge_runs(into, others)
        comparison = comparison_of(into)
        found.append((sorted(r.sha256 for r in into.rounds()), comparison.contrasts, comparison.notices))
    assert all(one == found[0] for one in found) and found[0][1][0].verdict == "jax"


def test_what_does_not_belong_together_is_refused(tmp_path: Path) -> None:
    tpu = recorded(tmp_path, "tpu")
    other_params = recorded(tmp_path / "p", "gpu", params=make_params(**ACCELERATORS, margin=0.05))
    other_weights = recorded(tmp_path / "w", "gpu", edit=lambda r: changed(r, weights_sha256="x" * 64))
    other_protocol = recorded(tmp_path / "q", "gpu", edit=lambda r: changed(r, protocol="0"))
    twice = recorded(tmp_path / "t", "tpu", seconds=equal_seconds)
    before = contents(tpu)
    for store, words in [
        (other_params, r"params_sha256.*tpu.*gpu.*params.margin=0.03.*0.05"),
        (other_weights, "weights_sha256.*wwwwwwwwwwww.*xxxxxxxxxxxx"),
        (other_protocol, "protocol.* 2.* 0"),
        (twice, "jax.portable.tpu-v6e-1.r00.*sha256="),
    ]:
        with pytest.raises(ValueError, match=words):
            merge_runs(tpu, [store])
        assert contents(tpu) == before, "nothing is written"


def test_a_damaged_run_is_refused(tmp_path: Path) -> None:
    tpu, gpu = recorded(tmp_path, "tpu"), recorded(tmp_path, "gpu")
    path = next((gpu.folder / "rounds").iterdir())
    path.write_text(path.read_text().replace('"ok"', '"failed"', 1))
    done = call_cli("report", "tpu", "--merge", "gpu", cwd=tmp_path)
    assert done.returncode == 2 and "sha256=" in done.stderr and path.name in done.stderr
    assert not list(tpu.folder.glob("report*"))


def test_other_workload_names_both_hashes(tmp_path: Path) -> None:
    tpu, gpu = recorded(tmp_path, "tpu"), recorded(tmp_path, "gpu")
    manifest = json.loads((gpu.folder / "run.json").read_text()) | {"workload_sha256": "f" * 64, "sha256": ""}
    write_document(gpu.folder / "run.json", Manifest(**manifest))
    shutil.rmtree(gpu.folder / "rounds")
    with pytest.raises(ValueError, match=r"workload_sha256.*tpu.*gpu.*ffffffffffff"):
        merge_runs(tpu, [gpu])
