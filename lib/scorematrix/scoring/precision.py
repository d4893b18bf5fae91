"""Which number format `dtype="auto"` selects on a device: the same one in every process on a machine."""

from __future__ import annotations

from pathlib import Path

from scorematrix.scoring.contract import DType

BFLOAT16_CPU_FLAGS = ("amx_bf16", "avx512_bf16")
CPUINFO = Path("/proc/cpuinfo")


def auto_dtype(device_kind: str, cpuinfo: Path = CPUINFO) -> tuple[DType, str]:
    """Return the fastest format that passes the numerics gate, and why.

    bfloat16 with float32 sums, softmax and head stays within the gate's caps on every engine (tests/parity proves it,
    and the gate of each run checks it again). It is the faster format wherever the hardware multiplies it. A CPU
    without such instructions would emulate them, many times slower than float32.
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
