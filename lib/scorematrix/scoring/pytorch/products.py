"""Float32 matrix products by oneDNN on x86 processors other than Intel's, where PyTorch's default, MKL, is slow.

On an AMD EPYC with AVX-512, MKL reaches 220 GFLOP/s and oneDNN 500 at the shapes of a layer; a call of SmolLM2-135M
takes 0.54 times as long. PyTorch itself uses oneDNN for bfloat16 only.
"""

from __future__ import annotations

import functools
import platform
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor


def _vendor() -> str:
    """Return the processor's maker as it names itself; empty if it does not say."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return ""
    return next((line.split(":")[1].strip() for line in lines if line.startswith("vendor_id")), "")


HAS_BOTH = torch.backends.mkl.is_available() and torch.backends.mkldnn.is_available()
ONEDNN = HAS_BOTH and platform.machine() == "x86_64" and _vendor() not in ("", "GenuineIntel")


def library(device: torch.device, dtype: str) -> str | None:
    """Return which library multiplies in `matmul`; None: the device's own."""
    if device.type != "cpu" or dtype != "float32" or not HAS_BOTH:
        return None
    return "oneDNN" if ONEDNN else "MKL"


def matmul(a_ti: Float[Tensor, "t i"], b_io: Float[Tensor, "i o"]) -> Float[Tensor, "t o"]:
    """Multiply like `torch.mm`, by the faster library."""
    if ONEDNN and a_ti.device.type == "cpu" and a_ti.dtype == torch.float32:
        return by_onednn(a_ti, b_io.t())
    return torch.mm(a_ti, b_io)


@torch.library.custom_op("scorematrix::by_onednn", mutates_args=())
def by_onednn(x_ti: Tensor, weight_oi: Tensor) -> Tensor:
    """Multiply rows by a weight of any strides."""
    return torch.ops.mkldnn._linear_pointwise(x_ti, weight_oi, None, "none", [], "")


@by_onednn.register_fake
def _shape(x_ti: Tensor, weight_oi: Tensor) -> Tensor:
    return x_ti.new_empty(x_ti.shape[0], weight_oi.shape[0])


@functools.cache
def let_programs_call_onednn() -> None:
    """Let compiled programs call oneDNN's product directly. By itself, Inductor does so only for constant weights."""
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
