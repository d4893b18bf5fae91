"""The targets that params may name: the kind of device, and how to get one."""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from typing import Literal

from scorematrix.results.target_records import Datasheet

DeviceKind = Literal["cpu", "gpu", "tpu"]


@dataclass(frozen=True)
class Target:
    """The hardware that a backend is to run on.

    Attributes:
        label: its name in reports.
        device_names: parts of the names that drivers or frameworks report; one match is enough.
        get_it: what to do if this machine has none.
        quota_family: Compute Engine's name of the GPU in the quota `GPUS_PER_GPU_FAMILY`.
        topology: its compiler's name (for a GPU: its row in `scoring.jax.cuda_chips`), if it compiles without the
            device.
        n_chips: number of chips; views that can be sharded use all of them.
        devices_a_chip: devices that a framework lists per chip, each with an equal share of its memory.
    """

    name: str
    kind: DeviceKind
    label: str
    device_names: tuple[str, ...]
    get_it: str
    quota_family: str | None = None
    topology: str | None = None
    chip: Datasheet | None = None
    n_chips: int = 1
    devices_a_chip: int = 1

    @property
    def n_devices(self) -> int:
        """Number of devices that a framework lists; a mesh consists of these."""
        return self.n_chips * self.devices_a_chip

    @property
    def device_bytes(self) -> int | None:
        """Memory of one device in bytes; None without a datasheet."""
        return self.chip.memory_bytes // self.devices_a_chip if self.chip else None

    @property
    def mesh(self) -> str | None:
        """Default mesh of a view: items are split over all devices, and each device has the full model."""
        return f"data={self.n_devices}" if self.n_devices > 1 else None

    @property
    def datasheet(self) -> Datasheet | None:
        """Datasheet of all chips together."""
        if self.chip is None or self.n_chips == 1:
            return self.chip
        rates = ("memory_bytes", "bfloat16_flops_per_second", "memory_bytes_per_second")
        together = {name: self.n_chips * getattr(self.chip, name) for name in rates}
        return self.chip.model_copy(update={**together, "source": f"{self.n_chips} times {self.chip.source}"})


READ = "2026-11-24"
"""When the sources below were read. Those of the GPUs quote NVIDIA's figures at second hand."""
_V6E = Datasheet(
    memory_bytes=32 << 30,
    bfloat16_flops_per_second=918e12,
    memory_bytes_per_second=1640e9,
    source="cloud.google.com/tpu/docs/v6e",
    date=READ,
)
_V5E = Datasheet(
    memory_bytes=16 << 30,
    bfloat16_flops_per_second=197e12,
    memory_bytes_per_second=819e9,
    source="cloud.google.com/tpu/docs/v6e, its column v5e",
    date=READ,
)
_TPU7X = Datasheet(
    memory_bytes=192 << 30,
    bfloat16_flops_per_second=2307e12,
    memory_bytes_per_second=7.37e12,
    source="docs.cloud.google.com/tpu/docs/tpu7x; the bandwidth is Google's announcement by dudududukim/spectrum-eager",
    date="2026-11-27",
)
_L4 = Datasheet(
    memory_bytes=24 * 10**9,
    bfloat16_flops_per_second=121e12,
    memory_bytes_per_second=300e9,
    source="grokipedia.com/page/NVIDIA_L4_vs_L40S: half of its figure with sparsity",
    date=READ,
)
_H100 = Datasheet(
    memory_bytes=80 * 10**9,
    bfloat16_flops_per_second=989e12,
    memory_bytes_per_second=3.35e12,
    source="glennklockwood.com/garden/processors/h100, SXM5",
    date=READ,
)
_H200 = Datasheet(
    memory_bytes=141 * 10**9,
    bfloat16_flops_per_second=989e12,
    memory_bytes_per_second=4.8e12,
    source="itkb.uw.cz/2026/06, H200 against B300, SXM",
    date=READ,
)
_RTX_PRO_6000 = Datasheet(
    memory_bytes=96 * 10**9,
    bfloat16_flops_per_second=503.8e12,
    memory_bytes_per_second=1597e9,
    source="NVIDIA's RTX Blackwell PRO architecture paper by NVIDIA/cudnn-frontend#597; a product measured at 417e12, "
    "zzc0721/torch-performance-test-data#162",
    date="2026-11-27",
)
_A100 = Datasheet(
    memory_bytes=80 * 10**9,
    bfloat16_flops_per_second=312e12,
    memory_bytes_per_second=2.039e12,
    source="glennklockwood.com/garden/processors/A100, 80 GB SXM4",
    date="2026-11-27",
)
_B200 = Datasheet(
    memory_bytes=192 * 10**9,
    bfloat16_flops_per_second=2250e12,
    memory_bytes_per_second=8e12,
    source="glennklockwood.com/garden/processors/B200, HGX at 1000 W",
    date=READ,
)
_GPU_VM = "rent a VM with one, clone the repository there, `make setup EXTRAS=cuda`, run the same params there"


def _v6e(n_chips: int, topology: str) -> Target:
    return Target(
        f"tpu-v6e-{n_chips}",
        "tpu",
        f"TPU v6e, {n_chips} chip{'s' if n_chips > 1 else ''}",
        ("v6e", "v6 lite", "TPU v6"),
        f"create a TPU VM (ct6e-standard-{n_chips}t, v2-alpha-tpuv6e), clone the repository there, "
        "`make setup EXTRAS=tpu`, run the same params there",
        topology=f"v6e:{topology}",
        chip=_V6E,
        n_chips=n_chips,
    )


_TARGETS = (
    Target("cpu", "cpu", "CPU", (), "every machine has one"),
    _v6e(1, "1x1"),
    _v6e(4, "2x2"),
    _v6e(8, "2x4"),
    Target(
        "tpu-v5e-1",
        "tpu",
        "TPU v5e, 1 chip",
        ("v5e", "v5 lite", "TPU v5 lite"),
        "create a TPU VM (ct5lp-hightpu-1t, v2-alpha-tpuv5-lite), clone the repository there, "
        "`make setup EXTRAS=tpu`, run the same params there",
        topology="v5e:1x1",
        chip=_V5E,
    ),
    Target(
        "tpu-7x-1",
        "tpu",
        "TPU7x, 1 chip",
        ("TPU7x",),
        "create a VM with one chip (tpu7x-standard-1t), clone the repository there, `make setup EXTRAS=tpu`, run the "
        "same params there",
        topology="tpu7x:1x1x1",
        chip=_TPU7X,
        devices_a_chip=2,
    ),
    Target(
        "gpu-g4",
        "gpu",
        "GPU G4, RTX PRO 6000",
        ("RTX PRO 6000",),
        "create a G4 VM (g4-standard-48), clone the repository there, `make setup EXTRAS=cuda`, run the same "
        "params there",
        quota_family="NVIDIA_RTX_PRO_6000",
        topology="rtx-pro-6000",
        chip=_RTX_PRO_6000,
    ),
    Target("gpu-l4", "gpu", "GPU L4", ("NVIDIA L4",), _GPU_VM, topology="l4", chip=_L4),
    Target("gpu-a100", "gpu", "GPU A100", ("A100",), _GPU_VM, topology="a100", chip=_A100),
    Target("gpu-h100", "gpu", "GPU H100", ("H100",), _GPU_VM, topology="h100", chip=_H100),
    Target("gpu-h200", "gpu", "GPU H200", ("H200",), _GPU_VM, topology="h200", chip=_H200),
    Target("gpu-b200", "gpu", "GPU B200", ("B200",), _GPU_VM, topology="b200", chip=_B200),
)
TARGETS: dict[str, Target] = {target.name: target for target in _TARGETS}


def target(name: str) -> Target:
    """Return the target of a name.

    Raises:
        ValueError: naming the unknown name and the nearest known one.
    """
    if name not in TARGETS:
        near = sorted(difflib.get_close_matches(name, TARGETS))  # several sizes of one chip are equally near
        raise ValueError(
            f"target={name!r} is unknown"
            + (f"; did you mean {' or '.join(map(repr, near))}?" if near else f"; known: {', '.join(TARGETS)}")
        )
    return TARGETS[name]
