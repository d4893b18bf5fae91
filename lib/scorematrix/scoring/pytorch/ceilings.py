"""PyTorch's part of `scoring.ceilings`."""

from __future__ import annotations

from collections.abc import Callable

import torch

from scorematrix.scoring.pytorch import device as devices
from scorematrix.scoring.pytorch import products


def matmul(size: int, dtype: str, device_kind: str) -> Callable[[], None]:
    """Return a function that runs a square product with the result in the operands' format, as the engines use it."""
    device = devices.choose_device(device_kind)
    a, b = (torch.randn(size, size, device=device).to(devices.compute_dtype(dtype)) for _ in range(2))

    def run() -> None:
        products.matmul(a, b)
        _wait(device)

    return run


def copy(n_bytes: int, device_kind: str) -> Callable[[], None]:
    """Return a function that copies on the device."""
    device = devices.choose_device(device_kind)
    source = torch.ones(n_bytes // 4, device=device)
    target = torch.empty_like(source)

    def run() -> None:
        torch.neg(source, out=target)
        _wait(device)

    return run


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
