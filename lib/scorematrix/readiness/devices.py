"""Find this machine's devices, from its drivers and from each framework in a separate process."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path

from scorematrix.readiness.device_users import taken, tpu_taken
from scorematrix.scoring.registry import Framework

PATIENCE_SECONDS = 120.0

_PROBES: dict[Framework, str] = {
    "jax": "import jax, json; print(json.dumps([[d.platform, d.device_kind] for d in jax.devices()]))",
    "pytorch": "import torch, json; print(json.dumps([['gpu', torch.cuda.get_device_name(i)] "
    "for i in range(torch.cuda.device_count())]))",
}
_PACKAGE: dict[Framework, str] = {"jax": "jax", "pytorch": "torch"}


@dataclass(frozen=True)
class FrameworkDevices:
    """Devices that one framework sees, each (platform, device name), or why the query failed."""

    devices: tuple[tuple[str, str], ...]
    error: str | None = None


@dataclass(frozen=True)
class Machine:
    """The devices of a machine, from its drivers and from the frameworks.

    Attributes:
        taken: by kind of device: who has it, if another process does.
    """

    nvidia: tuple[str, ...]
    nvidia_evidence: str
    tpu_evidence: str
    has_tpu: bool
    frameworks: dict[Framework, FrameworkDevices]
    taken: dict[str, str] = field(default_factory=dict)


def probe_machine(wanted: Collection[str] = tuple(_PROBES)) -> Machine:
    """Query the drivers and the installed frameworks, each framework in a separate process.

    The processes are separate because one that imports a framework keeps the TPU until it ends.

    Args:
        wanted: the frameworks whose devices matter; each takes seconds to import.
    """
    nvidia, nvidia_evidence = _nvidia_gpus()
    tpu_nodes = sorted(str(p) for pattern in ("accel*", "vfio/[0-9]*") for p in Path("/dev").glob(pattern))
    frameworks = _framework_devices(wanted)
    return Machine(
        nvidia=nvidia,
        nvidia_evidence=nvidia_evidence,
        has_tpu=bool(tpu_nodes),
        tpu_evidence=f"device nodes {', '.join(tpu_nodes)}" if tpu_nodes else "no /dev/accel* or /dev/vfio device node",
        frameworks=frameworks,
        taken=_taken(frameworks, bool(tpu_nodes)),
    )


def _taken(frameworks: dict[Framework, FrameworkDevices], has_tpu: bool) -> dict[str, str]:
    errors = " ".join(seen.error for seen in frameworks.values() if seen.error)
    users = {kind: taken(errors, kind) for kind in ("tpu", "gpu")}
    jax = frameworks.get("jax")
    if has_tpu and users["tpu"] is None and jax and all(platform != "tpu" for platform, _ in jax.devices):
        users["tpu"] = tpu_taken()  # JAX falls back to the CPU silently
    return {kind: who for kind, who in users.items() if who is not None}


def _nvidia_gpus() -> tuple[tuple[str, ...], str]:
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return (), "nvidia-smi is not on PATH" + ("" if Path("/dev/nvidia0").exists() else ", no /dev/nvidia0")
    command = [tool, "--query-gpu=name", "--format=csv,noheader"]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, timeout=30)
    except subprocess.TimeoutExpired:
        return (), "nvidia-smi did not answer within 30 s"
    if answer.returncode:
        return (), f"nvidia-smi failed: {' '.join((answer.stderr or answer.stdout).split())[:200]}"
    names = tuple(line.strip() for line in answer.stdout.splitlines() if line.strip())
    return names, f"nvidia-smi lists {', '.join(names) or 'no GPU'}"


def _framework_devices(wanted: Collection[str]) -> dict[Framework, FrameworkDevices]:
    environment = os.environ | {"TF_CPP_MIN_LOG_LEVEL": "3"}
    processes: dict[Framework, subprocess.Popen[str]] = {
        framework: subprocess.Popen(
            [sys.executable, "-c", code], env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        for framework, code in _PROBES.items()
        if framework in wanted and importlib.util.find_spec(_PACKAGE[framework]) is not None
    }
    devices: dict[Framework, FrameworkDevices] = {}
    for framework, process in processes.items():
        try:
            out, err = process.communicate(timeout=PATIENCE_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            devices[framework] = FrameworkDevices((), f"{framework} did not answer within {PATIENCE_SECONDS:.0f} s")
            continue
        if process.returncode:
            last = (err.strip().splitlines() or ["no message"])[-1]
            devices[framework] = FrameworkDevices((), f"{framework} failed to start: {last[:300]}")
        else:
            devices[framework] = FrameworkDevices(tuple(map(tuple, json.loads(out.splitlines()[-1]))))
    return devices
