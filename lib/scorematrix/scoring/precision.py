"""Which number format `dtype="auto"` means on a device: the same answer in every process on the same machine."""

from __future__ import annotations

from pathlib import Path

from scorematrix.scoring.contract import DType

BFLOAT16_CPU_FLAGS = ("amx_bf16", "avx512_bf16")
CPUINFO = Path("/proc/cpuinfo")


def auto_dtype(device_kind: str, cpuinfo: Path = CPUINFO) -> tuple[DType, str]:
    """The fastest format that keeps the numerics gate, and why.

    bfloat16 with float32 sums, softmax and head keeps the gate's caps on every engine (tests/parity proves it, the
    gate of each run checks it again); it is the faster one wherever the hardware multiplies it. A CPU without such
    instructions would emulate them, many times slower than float32.
    """
    if device_kind != "cpu":
        return "bfloat16", f"auto: a {device_kind} multiplies bfloat16"
    flags = _cpu_flags(cpuinfo)
    for flag in BFLOAT16_CPU_FLAGS:
        if flag in flags:
            return "bfloat16", f"auto: the CPU has {flag}"
    return "float32", f"auto: the CPU has neither {' nor '.join(BFLOAT16_CPU_FLAGS)}"


def _cpu_flags(cpuinfo: Path) -> set[str]:
    try:
        lines = cpuinfo.read_text("utf-8").splitlines()
    except OSError:
        return set()
    return set(next((line.partition(":")[2].split() for line in lines if line.startswith("flags")), ()))
