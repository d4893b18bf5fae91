"""What is read of an assembler's log and of XLA's dumps; an assembler that answers as NVIDIA's did for an H100."""

from __future__ import annotations

from pathlib import Path

import pytest

from scorematrix.results.target_records import KernelResources
from scorematrix.scoring.jax.assembler import attention_kernels, find_assembler, kernel_parts, read_log

# Lines of the contract's program for an H100 (JAX 0.10.2, its CUDA 12 plugin), shortened.
TEXT = """
  %pallas_call.0 = bf16[2048,16,128]{2,1,0} custom-call(%a), custom_call_target="__gpu$xla.gpu.triton", metadata={op_name="jit(program)/while/body/closed_call/own_items/join_own_items/pallas_call" stack_frame_id=9}
  %gemm_fusion_dot.17 = f32[832,2,32]{2,1,0} fusion(%b), kind=kCustom, metadata={op_name="jit(program)/own_items/bkmh,bukh->bkmu/dot_general"}
  %loop_pad_fusion.5 = bf16[2048,16,128]{2,1,0} fusion(%c), kind=kLoop, metadata={op_name="jit(program)/while/body/closed_call/own_items/pad"}
  %gemm_fusion_dot.5 = bf16[4032,16,128]{2,1,0} fusion(%d), kind=kCustom, metadata={op_name="jit(program)/while/body/closed_call/linear/td,dnh->tnh/dot_general"}
"""  # noqa: E501
LOG = """ptxas info    : 0 bytes gmem
ptxas info    : Compiling entry function 'join_own_items' for 'sm_90a'
ptxas info    : Function properties for join_own_items
    0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads
ptxas info    : Used 128 registers, used 1 barriers
ptxas info    : Compile time = 127.117 ms
"""
THUNKS = """000: kCuDnn
029: kCustomKernel [prev=028 (1)] join_own_items grid: [32, 16, 1] threads: [128, 1, 1]  shared_memory: 49280 bytes
"""


def test_kernels_are_attentions_by_their_scope_and_not_elementwise() -> None:
    assert kernel_parts(TEXT) == {"join_own_items": "own_items", "gemm_fusion_dot_17": "own_items"}


@pytest.mark.parametrize(
    ("log", "found"),
    [
        (LOG, [("join_own_items", {"registers": 128, "shared_bytes": 0, "spill_bytes": 0})]),
        (
            LOG.replace("0 bytes spill stores, 0 bytes spill loads", "8 bytes spill stores, 12 bytes spill loads")
            .replace("1 barriers", "1 barriers, 4608 bytes smem"),
            [("join_own_items", {"registers": 128, "shared_bytes": 4608, "spill_bytes": 20})],
        ),
        (LOG + LOG.replace("join_own_items", "other").replace("128", "40"), [
            ("join_own_items", {"registers": 128, "shared_bytes": 0, "spill_bytes": 0}),
            ("other", {"registers": 40, "shared_bytes": 0, "spill_bytes": 0}),
        ]),
        ("ptxas fatal   : Unsupported architecture", []),
    ],
)  # fmt: skip
def test_the_assemblers_log(log: str, found: list) -> None:
    assert list(read_log(log)) == found


def test_only_attention_kernels_are_assembled_and_dumps_do_not_pile_up(tmp_path: Path) -> None:
    folder, asked, assembler = tmp_path / "dumps", tmp_path / "asked", tmp_path / "ptxas"
    folder.mkdir()
    for number, name in enumerate(("join_own_items", "gemm_fusion_dot_5")):
        (folder / f"module_0001.{number}.ptx").write_text(f".target sm_90a\n.visible .entry {name}(\n)")
    (folder / "module_0001.thunk_sequence.txt").write_text(THUNKS)
    (tmp_path / "log").write_text(LOG)
    assembler.write_text(f'#!/bin/sh\necho "$@" >> {asked}\ncat {tmp_path / "log"} >&2\n')
    assembler.chmod(0o755)
    (kernel,) = (KernelResources(**one) for one in attention_kernels(folder, TEXT, str(assembler)))
    assert (kernel.kernel, kernel.part, kernel.registers) == ("join_own_items", "own_items", 128)
    assert (kernel.shared_bytes, kernel.spill_bytes) == (49280, 0), "what its launch adds, too"
    (line,) = asked.read_text().splitlines()
    assert "-arch=sm_90a" in line and line.endswith("module_0001.0.ptx")
    assert not list(folder.iterdir())
    assert attention_kernels(folder, TEXT, None) == []


def test_the_assembler_of_the_path_is_taken_where_no_package_has_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("scorematrix.scoring.jax.assembler.PLACES", {"no_such_package.at_all": "bin/ptxas"})
    monkeypatch.setenv("PATH", str(tmp_path))
    assert find_assembler() is None
    (tmp_path / "ptxas").touch(mode=0o755)
    assert find_assembler() == str(tmp_path / "ptxas")
