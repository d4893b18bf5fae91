"""The targets that params may name: what kind of device each is, and how one gets it."""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from typing import Literal

DeviceKind = Literal["cpu", "gpu", "tpu"]


@dataclass(frozen=True)
class Target:
    """Where a backend is meant to run.

    Attributes:
        label: what reports call it.
        device_names: parts of the names under which drivers or frameworks report it; any match will do.
        get_it: what to do where this machine has none.
    """

    name: str
    kind: DeviceKind
    label: str
    device_names: tuple[str, ...]
    get_it: str


_GPU_VM = "rent a VM with one, clone the repository there, `make setup EXTRAS=cuda`, "
_TARGETS = (
    Target("cpu", "cpu", "CPU", (), "every machine has one"),
    Target(
        "tpu-v6e-1",
        "tpu",
        "TPU v6e, 1 chip",
        ("v6e", "v6 lite", "TPU v6"),
        "create a TPU VM (ct6e-standard-1t, v2-alpha-tpuv6e), clone the repository there, `make setup EXTRAS=tpu`, "
        "run the same params there",
    ),
    Target(
        "tpu-v5e-1",
        "tpu",
        "TPU v5e, 1 chip",
        ("v5e", "v5 lite", "TPU v5 lite"),
        "create a TPU VM (ct5lp-hightpu-1t, v2-alpha-tpuv5-lite), clone the repository there, "
        "`make setup EXTRAS=tpu`, run the same params there",
    ),
    Target(
        "gpu-g4",
        "gpu",
        "GPU G4, RTX PRO 6000",
        ("RTX PRO 6000",),
        "create a G4 VM (g4-standard-48), clone the repository there, `make setup EXTRAS=cuda`, run the same "
        "params there",
    ),
    Target("gpu-l4", "gpu", "GPU L4", ("NVIDIA L4",), _GPU_VM + "run the same params there"),
    Target("gpu-h100", "gpu", "GPU H100", ("H100",), _GPU_VM + "run the same params there"),
    Target("gpu-h200", "gpu", "GPU H200", ("H200",), _GPU_VM + "run the same params there"),
    Target("gpu-b200", "gpu", "GPU B200", ("B200",), _GPU_VM + "run the same params there"),
)
TARGETS: dict[str, Target] = {target.name: target for target in _TARGETS}


def target(name: str) -> Target:
    """The target of a name.

    Raises:
        ValueError: naming the unknown name and the nearest known one.
    """
    if name not in TARGETS:
        near = difflib.get_close_matches(name, TARGETS, n=1)
        raise ValueError(
            f"target={name!r} is unknown"
            + (f"; did you mean {near[0]!r}?" if near else f"; known: {', '.join(TARGETS)}")
        )
    return TARGETS[name]
