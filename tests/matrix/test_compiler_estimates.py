"""A compiler's estimates in records, on the command line and in the report: beside the floor, never as measurements."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

import pytest

from scorematrix.checksum import content_sha256
from scorematrix.matrix import compile_cells, compilers
from scorematrix.matrix.workloads import build_workload
from scorematrix.models import read_description
from scorematrix.models.flops import scoring_flops
from scorematrix.report.preflight import estimates_section
from scorematrix.report.terminal import estimate_lines
from scorematrix.results import CompiledRecord, read_document
from tests.factory import make_params

OPERATION = {"name": "fusion.1", "operation": "td,df->tf/dot_general", "part": "linear", "runs": 27, "cycles": 100}
KERNEL = {"kernel": "join_own_items", "part": "own_items", "registers": 168, "shared_bytes": 16384, "spill_bytes": 8}
ESTIMATE = {
    "flops": 4e9, "bytes_accessed": 2e9, "loop_trips": 27, "optimal_seconds": None, "cycles": 4000,
    "costliest": [OPERATION], "without_cycles": ["joint_attention"], "kernels": [KERNEL],
}  # fmt: skip


@pytest.fixture
def estimated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> CompiledRecord:
    (tmp_path / "libtpu.so").touch()
    monkeypatch.setattr(compilers, "LIBTPU", tmp_path / "libtpu.so")
    said = {"status": "compiled", "seconds": 1, "estimate": ESTIMATE}
    echo = f"import json, sys\nfor line in sys.stdin:\n    print(json.dumps({said!r}), flush=True)"
    monkeypatch.setattr(compilers, "CHILD", [sys.executable, "-c", echo])
    return compile_cells(make_params(chunk_sizes=[8]), "tpu-v6e-1", lambda cell: None)


def test_an_estimate_stands_beside_the_floor_and_never_as_a_measurement(estimated: CompiledRecord) -> None:
    (cell,) = estimated.cells
    config = read_description("random:tiny-llama").config
    call = max(build_workload(make_params()).requests, key=lambda r: sum(map(len, r.items_ids)))
    assert cell.floor_flops == scoring_flops(config, len(call.query_ids), [len(ids) for ids in call.items_ids])
    assert cell.floor_seconds == cell.floor_flops / 918e12
    first, costliest, kernel = estimate_lines(cell)
    assert "ESTIMATE, not measured" in first
    assert "4.00 GFLOP and 2.00 GB (loop body counted once, not 27 times);" in first
    assert "4,000 cycles without joint_attention" in first and "at best" not in first
    assert "67.5 % of the cycles: fusion.1" in costliest and "168 registers, 16,384 bytes shared, 8 spilled" in kernel
    page = estimates_section([estimated]).html
    captions = re.findall("<caption>(.*?)</caption>", page)
    assert len(captions) == 3 and all("not measured" in caption for caption in captions)
    assert "67.5 %" in page and "join_own_items" in page and " ms" not in page
    assert estimates_section([]).html == ""


def test_a_record_from_before_estimates_is_read(estimated: CompiledRecord, tmp_path: Path) -> None:
    content = estimated.model_dump(mode="json", exclude={"sha256"}) | {"schema_version": 2}
    for cell in content["cells"]:
        for later in ("estimate", "floor_flops", "floor_seconds"):
            del cell[later]
    path = tmp_path / "record.json"
    path.write_text(json.dumps(content | {"sha256": content_sha256(content)}))
    (cell,) = read_document(path, CompiledRecord).cells
    assert cell.status == "compiled" and cell.estimate is None and estimate_lines(cell) == []
    assert estimates_section([read_document(path, CompiledRecord)]).html == ""
