"""The targets that params may name: the kind of device, and how to get one."""

from __future__ import annotations

import difflib
import re
from dataclasses import dataclass
from typing import Literal

from scorematrix.results.target_records import Datasheet
from scorematrix.scoring.jax.cuda_chips import Chip

DeviceKind = Literal["cpu", "gpu", "tpu"]


@dataclass(frozen=True)
class Target:
    """The hardware that a backend is to run on.

    Attributes:
        label: its name in reports.
        device_names: words in the names that drivers or frameworks report; one match is enough.
        get_it: what to do if this machine has none.
        quota_family: Compute Engine's name of the GPU in the quota `GPUS_PER_GPU_FAMILY`.
        ray_name: Ray's name of the chip: a node that Ray has recognised has `accelerator_type:<name>`.
        topology: of a TPU: its compiler's name, if it compiles without the device.
        cuda: of a GPU: what XLA's compiler needs to know, if it compiles without the device.
        n_chips: number of chips; views that can be sharded use all of them.
        devices_a_chip: devices that a framework lists per chip, each with an equal share of its memory.
    """

    name: str
    kind: DeviceKind
    label: str
    device_names: tuple[str, ...]
    get_it: str
    quota_family: str | None = None
    ray_name: str | None = None
    topology: str | None = None
    cuda: Chip | None = None
    chip: Datasheet | None = None
    n_chips: int = 1
    devices_a_chip: int = 1

    def is_named(self, device: str) -> bool:
        """Return whether a driver's or framework's name of a device is one of this target: an L40S is no L4."""
        words = map(re.escape, self.device_names)
        return any(re.search(rf"(?<!\w){word}(?!\w)", device, re.IGNORECASE) for word in words)

    @property
    def extra(self) -> str:
        """The extra with which `make setup` installs its frameworks."""
        return "cuda" if self.kind == "gpu" else self.kind

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


def _chip(gb: float, tflops: float, gb_per_second: float, source: str, date: str = READ) -> Datasheet:
    """Return a datasheet: memory, dense bfloat16 peak, memory bandwidth."""
    return Datasheet(
        memory_bytes=round(gb * 1e9),
        bfloat16_flops_per_second=tflops * 1e12,
        memory_bytes_per_second=gb_per_second * 1e9,
        source=source,
        date=date,
    )


GIB = 2**30 / 1e9
LATER = "2026-11-27"
_V6E = _chip(32 * GIB, 918, 1640, "cloud.google.com/tpu/docs/v6e")
_V5E = _chip(16 * GIB, 197, 819, "cloud.google.com/tpu/docs/v6e, its column v5e")
_TPU7X = _chip(
    192 * GIB, 2307, 7370, "docs.cloud.google.com/tpu/docs/tpu7x; the bandwidth is Google's announcement by "
    "dudududukim/spectrum-eager", LATER,
)  # fmt: skip
_L4 = _chip(24, 121, 300, "grokipedia.com/page/NVIDIA_L4_vs_L40S: half of its figure with sparsity")
_H100 = _chip(80, 989, 3350, "glennklockwood.com/garden/processors/h100, SXM5")
_H200 = _chip(141, 989, 4800, "itkb.uw.cz/2026/06, H200 against B300, SXM")
_RTX_PRO_6000 = _chip(
    96, 503.8, 1597, "NVIDIA's RTX Blackwell PRO architecture paper by NVIDIA/cudnn-frontend#597; a product measured "
    "at 417e12, zzc0721/torch-performance-test-data#162", LATER,
)  # fmt: skip
_A100 = _chip(80, 312, 2039, "glennklockwood.com/garden/processors/A100, 80 GB SXM4", LATER)
_B200 = _chip(192, 2250, 8000, "glennklockwood.com/garden/processors/B200, HGX at 1000 W")


def _vm(machine: str, extra: str) -> str:
    return f"{machine}, clone the repository there, `make setup EXTRAS={extra}`, run the same params there"


def _v6e(n_chips: int, topology: str) -> Target:
    return Target(
        f"tpu-v6e-{n_chips}",
        "tpu",
        f"TPU v6e, {n_chips} chip{'s' if n_chips > 1 else ''}",
        ("v6e", "v6 lite", "TPU v6"),
        _vm(f"create a TPU VM (ct6e-standard-{n_chips}t, v2-alpha-tpuv6e)", "tpu"),
        ray_name="TPU-V6E",
        topology=f"v6e:{topology}",
        chip=_V6E,
        n_chips=n_chips,
    )


def _gpu(name: str, series: str, chip: Datasheet, cuda: Chip) -> Target:
    label, get_it = name.upper(), _vm(f"rent a VM with one (on Google Cloud: series {series})", "cuda")
    return Target(f"gpu-{name}", "gpu", f"GPU {label}", (label,), get_it, ray_name=label, chip=chip, cuda=cuda)


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
        _vm("create a TPU VM (ct5lp-hightpu-1t, v2-alpha-tpuv5-lite)", "tpu"),
        ray_name="TPU-V5LITEPOD",
        topology="v5e:1x1",
        chip=_V5E,
    ),
    Target(
        "tpu-7x-1",
        "tpu",
        "TPU7x, 1 chip",
        ("TPU7x",),
        _vm("create a VM with one chip (tpu7x-standard-1t)", "tpu"),
        ray_name="TPU-V7X",
        topology="tpu7x:1x1x1",
        chip=_TPU7X,
        devices_a_chip=2,
    ),
    Target(
        "gpu-g4",
        "gpu",
        "GPU G4, RTX PRO 6000",
        ("RTX PRO 6000",),
        _vm("create a G4 VM (g4-standard-48)", "cuda"),
        quota_family="NVIDIA_RTX_PRO_6000",
        ray_name="RTX-PRO-6000",
        cuda=Chip("NVIDIA RTX PRO 6000 Blackwell Server Edition", "12.0", 188, 2.6, 128 << 20),
        chip=_RTX_PRO_6000,
    ),
    _gpu("l4", "G2", _L4, Chip("NVIDIA L4", "8.9", 58, 2.04, 48 << 20)),
    _gpu("a100", "A2 Ultra", _A100, Chip("NVIDIA A100-SXM4-80GB", "8.0", 108, 1.41, 40 << 20)),
    _gpu("h100", "A3 High", _H100, Chip("NVIDIA H100 80GB HBM3", "9.0", 132, 1.98, 50 << 20)),
    _gpu("h200", "A3 Ultra", _H200, Chip("NVIDIA H200", "9.0", 132, 1.98, 50 << 20)),
    _gpu("b200", "A4", _B200, Chip("NVIDIA B200", "10.0", 148, 1.965, 126 << 20)),
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
