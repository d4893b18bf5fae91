"""Cells that are compiled without their device: what fits, what does not, what ends the compiler; and the report."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path

import pytest

from scorematrix.analysis import Run
from scorematrix.matrix import compile_cells, compilers, load_params
from scorematrix.readiness import TARGETS
from scorematrix.report import ReportPage
from scorematrix.report.terminal import compiled_line
from scorematrix.results import Readiness, RecordStore
from tests.conftest import ROOT, call_cli, run_cli
from tests.factory import make_params, make_run

CONTRACT = ROOT / "params" / "contract.yaml"
CHILD = """
import json, os, sys
for line in sys.stdin:
    cell = json.loads(line)
    n = len(cell["item_tokens"])
    if n == 1:
        os._exit(7)  # as a compiler that aborts
    if n == 2:
        print("not json", flush=True); continue
    big = n > 4
    sizes = {"arguments_bytes": 10**9, "temporaries_bytes": n * 10**9, "outputs_bytes": 8, "code_bytes": 10**6}
    print(json.dumps({"status": "too_large" if big else "compiled", "seconds": 1.5, **sizes,
                      "over_bytes": 3 * 10**9 if big else None}), flush=True)
"""


@pytest.fixture
def fake_compiler(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compilers, "LIBTPU", tmp_path / "libtpu" / "libtpu.so")
    (tmp_path / "libtpu-1.2.dist-info").mkdir()
    compilers.LIBTPU.parent.mkdir()
    compilers.LIBTPU.touch()
    monkeypatch.setattr(compilers, "CHILD", [sys.executable, "-c", CHILD])


def test_cells_of_one_program_are_compiled_once(fake_compiler, monkeypatch: pytest.MonkeyPatch) -> None:
    """Chunks 5 to 8 are padded to one shape here; 3 is not of it. The compiler answers with what it was asked."""
    echo = (
        "import json, sys\nfor n, line in enumerate(sys.stdin):\n"
        "    print(json.dumps({'status': 'compiled', 'code_bytes': len(json.loads(line)['item_tokens']),"
        " 'seconds': n}), flush=True)"
    )
    monkeypatch.setattr(compilers, "CHILD", [sys.executable, "-c", echo])
    shape = {
        "kind": "canonical",
        "query_tokens": 24,
        "n_items": 8,
        "item_tokens": 3,
        "label_ids": [100, 200],
        "seed": 3,
    }
    asked = compile_cells(make_params(chunk_sizes=[3, 7, 8], workload=shape), "tpu-v6e-1", lambda cell: None)
    assert [c.chunk_size for c in asked.cells] == [3, 7, 8], "in the plan's order"
    assert [c.code_bytes for c in asked.cells] == [3, 7, 7], "8 is what 7 was"


@pytest.mark.parametrize(
    ("target", "own", "mesh"),
    [("tpu-v6e-1", None, None), ("tpu-v6e-4", None, "data=4"), ("tpu-v6e-8", "data=2,model=2", "data=2,model=2")],
)
def test_a_view_is_compiled_for_the_mesh_that_it_would_run_on(
    fake_compiler, monkeypatch: pytest.MonkeyPatch, target: str, own: str | None, mesh: str | None
) -> None:
    """The compiler answers with what it was asked: the mesh, for the view that can be spread and for no other."""
    echo = (
        "import json, sys\nfor line in sys.stdin:\n"
        "    print(json.dumps({'status': 'failed', 'error': str(json.loads(line)['mesh']), 'seconds': 1}), flush=True)"
    )
    monkeypatch.setattr(compilers, "CHILD", [sys.executable, "-c", echo])
    choices = [{"backend": "jax", "views": ["portable", "best_native"], "mesh": own}]
    record = compile_cells(make_params(chunk_sizes=[8], backends=choices), target, lambda cell: None)
    assert [(c.view, c.error, c.mesh) for c in record.cells] == [
        ("portable", "None", None),
        ("best_native", str(mesh), mesh),
    ]
    words = f", mesh {mesh}" if mesh else ""
    assert compiled_line(record.cells[1]).startswith(f"jax best_native, chunk 8, float32{words}: FAILED")


def test_every_cell_has_a_line_and_a_dead_compiler_is_started_again(fake_compiler) -> None:
    seen = []
    record = compile_cells(make_params(chunk_sizes=[1, 4, 2, 8]), "tpu-v6e-1", seen.append)
    assert record.cells == seen and [c.chunk_size for c in seen] == [1, 4, 2, 8]
    assert [c.status for c in seen] == ["failed", "compiled", "failed", "too_large"]
    assert "ended with code 7" in seen[0].error and seen[3].over_bytes == 3 * 10**9
    assert seen[1].chip_bytes == 32 << 30 and seen[1].dtype == "float32"


@pytest.mark.parametrize(
    ("changes", "target", "words"),
    [
        ({}, "cpu", "cpu"),
        ({"backends": [{"backend": "pytorch"}]}, "tpu-v6e-1", "jax"),
    ],
)
def test_what_cannot_be_asked_is_told(fake_compiler, changes: dict, target: str, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        compile_cells(make_params(**changes), target, lambda cell: None)


def test_without_a_compiler_the_next_step_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compilers, "LIBTPU", tmp_path / "none.so")
    with pytest.raises(ValueError, match="make compilers"):
        compile_cells(make_params(), "tpu-v6e-1", lambda cell: None)
    done = call_cli("preflight", "--compile", "--target", "tpu-v6e-1", cwd=tmp_path)
    assert done.returncode == 2 and "--compile" in done.stderr and "PARAMS" in done.stderr


def test_without_the_cuda_compiler_every_cell_says_so_and_what_to_install(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(compilers, "CUDA_PLUGINS", ("no_such_plugin",))
    seen = []
    record = compile_cells(make_params(chunk_sizes=[4, 8]), "gpu-h100", seen.append)
    assert record.cells == seen and [(c.chunk_size, c.status) for c in seen] == [
        (4, "not_compiled"),
        (8, "not_compiled"),
    ]
    assert record.compiler == "none for CUDA"
    for cell in seen:
        assert "'jax[cuda13]'" in cell.error
        assert cell.chip_bytes == 80 * 10**9 and cell.temporaries_bytes is None
        assert compiled_line(cell).startswith(f"jax portable, chunk {cell.chunk_size}, float32: NOT COMPILED")
    manifest, workload, readiness, rounds = make_run()
    readiness = Readiness(**readiness.model_dump(exclude={"sha256", "compiled"}), compiled=[record])
    table = ReportPage(Run(manifest, workload, readiness, rounds)).compiled().html
    assert table.count("not compiled") == 2 and "compiled, not measured" not in table


@pytest.mark.skipif(
    any(importlib.util.find_spec(p) for p in compilers.CUDA_PLUGINS), reason="the CUDA compiler is here"
)
def test_preflight_for_a_gpu_ends_with_4_where_nothing_was_compiled(tmp_path: Path) -> None:
    tiny = str(ROOT / "tests" / "fixtures" / "tiny.yaml")
    done = call_cli("preflight", tiny, "--target", "gpu-g4", "--compile", cwd=tmp_path)
    assert done.returncode == 4, done.stdout + done.stderr
    assert done.stdout.count("NOT COMPILED") == 2
    (path,) = (tmp_path / "outputs" / "readiness" / "compiled").iterdir()
    assert {cell["status"] for cell in json.loads(path.read_text())["cells"]} == {"not_compiled"}


def test_with_the_cuda_plugin_its_compiler_is_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A plugin by name only: which process is started, with what it is told; not what a real one answers."""
    (tmp_path / "fake_cuda_plugin").mkdir()
    (tmp_path / "fake_cuda_plugin" / "__init__.py").touch()
    (tmp_path / "fake_cuda_plugin-1.2.dist-info").mkdir()
    (tmp_path / "fake_cuda_plugin-1.2.dist-info" / "METADATA").write_text("Name: fake_cuda_plugin\nVersion: 1.2\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(compilers, "CUDA_PLUGINS", ("fake_cuda_plugin",))
    echo = (
        "import json, os, sys\nfor line in sys.stdin:\n    asked = json.loads(line)\n"
        "    said = [asked['platform'], asked['cuda'][0], os.environ['XLA_FLAGS'].split()[-1]]\n"
        "    print(json.dumps({'status': 'failed', 'error': ' '.join(said), 'seconds': 0}), flush=True)"
    )
    monkeypatch.setattr(compilers, "CHILD", [sys.executable, "-c", echo])
    record = compile_cells(make_params(chunk_sizes=[8]), "gpu-g4", lambda cell: None)
    assert record.compiler == "fake_cuda_plugin 1.2"
    assert [c.error for c in record.cells] == [
        "gpu NVIDIA RTX PRO 6000 Blackwell Server Edition --xla_gpu_autotune_level=0"
    ]


def test_every_gpu_target_is_described_to_the_cuda_compiler() -> None:
    from scorematrix.scoring.jax.cuda_chips import CORES, target_config

    gpus = [target for target in TARGETS.values() if target.kind == "gpu"]
    assert gpus
    for target in gpus:
        chip, sheet = target.cuda, target.chip
        assert target.is_named(chip.name), "it is the same GPU"
        text = target_config(chip, sheet.memory_bytes, sheet.memory_bytes_per_second)
        assert text.count("{") == text.count("}") and f"core_count: {chip.cores}\n" in text
        assert f"device_memory_size: {sheet.memory_bytes}\n" in text
        assert chip.capability in CORES and "None" not in text


def test_every_accelerator_has_a_dated_and_sourced_datasheet() -> None:
    for target in TARGETS.values():
        if target.kind != "cpu":
            assert target.chip is not None, target.name
            assert target.chip.source and target.chip.date.startswith("2026-")
            assert 1e14 < target.chip.bfloat16_flops_per_second < 3e15 and target.chip.memory_bytes > 10**10


def test_the_report_never_shows_a_compiled_cell_as_a_time(fake_compiler, tmp_path: Path) -> None:
    manifest, workload, readiness, rounds = make_run()
    record = compile_cells(make_params(chunk_sizes=[4, 8]), "tpu-v6e-1", lambda cell: None)
    store = RecordStore(tmp_path)
    store.keep_compiled(record)
    assert store.compiled(record.model, record.workload_sha256) == [record]
    assert store.compiled(record.model, "another workload") == [] and store.read() == {}
    readiness = Readiness(**readiness.model_dump(exclude={"sha256", "compiled"}), compiled=[record])
    run = Run(manifest, workload, readiness, rounds)
    page, comparison = ReportPage(run).compiled().html, run.comparison
    table = page[page.index("Compiled, not measured: programs") :]
    assert "compiled, not measured</td>" in table and "does not fit by 3.00 GB" in table and "libtpu 1.2" in table
    assert "items/s" not in table and " ms" not in table
    assert all(c.verdict == "deferred" for c in comparison.contrasts if c.kind == "system")


@pytest.mark.slow
@pytest.mark.chaos
def test_the_contract_through_the_real_compiler(tmp_path: Path) -> None:
    """The largest call of both views compiles and fits a v6e; a dense mask over 12,000 tokens takes many times more."""
    if not compilers.LIBTPU.is_file():
        pytest.skip(f"the TPU compiler is not at {compilers.LIBTPU}; `make test` puts it there")
    done = run_cli(
        "preflight", str(CONTRACT), "--target", "tpu-v6e-1", "--compile", "--set", "model=random:qwen3-0.6b",
        "--set", "chunk_sizes=[500]", cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    (path,) = (tmp_path / "outputs" / "readiness" / "compiled").iterdir()
    cells = {cell["view"]: cell for cell in json.loads(path.read_text())["cells"]}
    assert cells["best_native"]["status"] == "compiled" and cells["best_native"]["temporaries_bytes"] <= 1e9
    assert cells["best_native"]["arguments_bytes"] >= 1.1e9, "bfloat16 weights"
    assert "best_native, chunk 500, bfloat16: compiled, not measured; weights" in done.stdout
    assert "without joint_attention" in done.stdout, "attention must be the Pallas kernel, not plain operations"
    assert cells["portable"]["status"] == "compiled"
    assert cells["portable"]["temporaries_bytes"] > 10 * cells["best_native"]["temporaries_bytes"]


@pytest.mark.slow
@pytest.mark.chaos
@pytest.mark.parametrize(("target", "mesh"), [("tpu-v6e-4", None), ("tpu-v6e-8", "data=2,model=4")])
def test_meshes_through_the_real_compiler(tmp_path: Path, target: str, mesh: str | None) -> None:
    """Items over four chips as the target has it; a model's heads over four of eight as the params have it."""
    if not compilers.LIBTPU.is_file():
        pytest.skip(f"the TPU compiler is not at {compilers.LIBTPU}; `make test` puts it there")
    backends = json.dumps([{"backend": "jax", "views": ["best_native"], "mesh": mesh}, {"backend": "pytorch"}])
    done = run_cli(
        "preflight", str(CONTRACT), "--target", target, "--compile", "--set", "model=random:qwen3-0.6b",
        "--set", "chunk_sizes=[16]", "--set", "workload.query_tokens=200", "--set", "workload.n_items=16",
        "--set", f"backends={backends}", cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    (path,) = (tmp_path / "outputs" / "readiness" / "compiled").iterdir()
    (cell,) = json.loads(path.read_text())["cells"]
    assert (cell["status"], cell["mesh"]) == ("compiled", mesh or "data=4"), cell
    whole, n_params = 2 * 596e6, 440e6  # bfloat16; what heads and columns are, the rest is on every chip
    share = whole if mesh is None else whole - 2 * n_params * 3 / 4
    assert share <= cell["arguments_bytes"] <= share + 0.4e9, "sizes are of one chip; a tied head is given twice"


def test_the_contract_is_what_it_was_agreed_to_be() -> None:
    params = load_params(CONTRACT)
    shape = params.workload
    assert (params.model, shape.query_tokens, shape.n_items, shape.item_tokens) == ("Qwen/Qwen3-0.6B", 2000, 500, 20)
    assert shape.label_ids == [9454, 2753] and params.chunk_sizes == [1, 2, 4, 8, 16, 32, 64, 128, 256, 500]
    assert params.rounds >= 10 and params.passes >= 4, "steadiness can be tested"
