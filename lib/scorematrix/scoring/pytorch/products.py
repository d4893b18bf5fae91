"""Multiply on a CPU with the faster of PyTorch's libraries.

Float32: oneDNN on processors with AVX-512 that are not Intel's, where PyTorch's default, MKL, is slow. On such an AMD
EPYC, MKL reaches 220 GFLOP/s and oneDNN 500 at the shapes of a layer. A call of the default job takes 108 ms instead of
200. On an AMD EPYC without AVX-512, MKL reaches 101 GFLOP/s and oneDNN 76, and a call takes two thirds of the time.

Bfloat16: PyTorch itself uses oneDNN on processors with AVX-512. On others `torch.mm` reaches 1 to 10 GFLOP/s, so the
operands are converted to float32, multiplied, and the result is rounded. On the AMD EPYC without AVX-512, a call of
SmolLM2-135M with 224 tokens takes 0.75 s instead of 28.5.
"""

from __future__ import annotations

import functools
import os
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor


def _vendor() -> str:
    """Return the processor's vendor id; empty if it is unknown."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return ""
    return next((line.split(":")[1].strip() for line in lines if line.startswith("vendor_id")), "")


for _cache in ("LRU_CACHE_CAPACITY", "ONEDNN_PRIMITIVE_CACHE_CAPACITY"):
    # oneDNN keeps 0.7 MB for each length and weight shape, by default for 1024 of them. Read at the first product.
    os.environ.setdefault(_cache, "64")
HAS_BOTH = torch.backends.mkl.is_available() and torch.backends.mkldnn.is_available()
ONEDNN = HAS_BOTH and torch.backends.cpu.get_cpu_capability() == "AVX512" and _vendor() not in ("", "GenuineIntel")
WIDENS = HAS_BOTH and not torch.ops.mkldnn._is_mkldnn_bf16_supported()
"""Whether bfloat16 matrices are multiplied in float32."""


def matmul(a_ti: Float[Tensor, "t i"], b_io: Float[Tensor, "i o"]) -> Float[Tensor, "t o"]:
    """Multiply like `torch.mm`, with the faster library."""
    if _widens(a_ti.device, a_ti.dtype):
        return matmul(a_ti.float(), b_io.float()).to(a_ti.dtype)
    if not _uses_onednn(a_ti.device, a_ti.dtype):
        return torch.mm(a_ti, b_io)
    # Outside of a program, the first call of an operator of ours would import PyTorch's compiler, for seconds.
    return by_onednn(a_ti, b_io.t()) if torch.compiler.is_compiling() else _linear(a_ti, b_io.t())


def _linear(x_ti: Tensor, weight_oi: Tensor) -> Tensor:
    return torch.ops.mkldnn._linear_pointwise(x_ti, weight_oi, None, "none", [], "")


def matmul_name(device: torch.device, dtype: torch.dtype) -> str:
    """Return what `matmul` calls."""
    if _widens(device, dtype):
        return f"{matmul_name(device, torch.float32)} in float32"
    return "oneDNN" if _uses_onednn(device, dtype) else "torch.mm"


def _uses_onednn(device: torch.device, dtype: torch.dtype) -> bool:
    return ONEDNN and device.type == "cpu" and dtype == torch.float32


def _widens(device: torch.device, dtype: torch.dtype) -> bool:
    return WIDENS and device.type == "cpu" and dtype == torch.bfloat16


@torch.library.custom_op("scorematrix::by_onednn", mutates_args=())
def by_onednn(x_ti: Tensor, weight_oi: Tensor) -> Tensor:
    """Multiply rows by a weight of any strides."""
    return _linear(x_ti, weight_oi)


@by_onednn.register_fake
def _shape(x_ti: Tensor, weight_oi: Tensor) -> Tensor:
    return x_ti.new_empty(x_ti.shape[0], weight_oi.shape[0])


@functools.cache
def let_programs_call_onednn() -> None:
    """Let compiled programs call oneDNN directly. Inductor does this only for constant weights."""
    from torch._inductor import ir, mkldnn_ir
    from torch._inductor.lowering import register_lowering

    def lower(x_ti: Any, weight_oi: Any) -> Any:
        realized = ir.ExternKernel.realize_input
        x_ti, weight_oi = ir.ExternKernel.require_contiguous(realized(x_ti)), realized(weight_oi)
        size = [x_ti.get_size()[0], weight_oi.get_size()[0]]
        layout = ir.FixedLayout(device=x_ti.get_device(), dtype=x_ti.get_dtype(), size=size)
        # No bias and no function of the product, as in `by_onednn`.
        product = mkldnn_ir.LinearUnary(layout, [x_ti, weight_oi], [None, "none", [-1], ""])
        return ir.TensorBox.create(mkldnn_ir._create_output_node(product))

    register_lowering(torch.ops.scorematrix.by_onednn.default, type_promotion_kind=None)(lower)
