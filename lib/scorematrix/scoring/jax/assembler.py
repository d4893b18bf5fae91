"""Report the multiprocessor resources of a CUDA program's attention kernels, from XLA's dumps of a compilation.

XLA emits PTX for each kernel. NVIDIA's assembler, part of the CUDA plugin, reports the kernel's registers and spills.
cuDNN's kernels are missing, because cuDNN chooses them on the GPU.
"""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from scorematrix.scoring.jax.profiles import part_of, scopes_of

ATTENTION = ("query_attention", "prefix_attention", "own_items")
PLACES = {"nvidia.cuda_nvcc": "bin/ptxas", "nvidia.cu13": "bin/ptxas"}
"""Path of the assembler in NVIDIA's packages for CUDA 12 and 13."""
ELEMENTWISE = ("loop_", "wrapped_")
"""XLA's name prefixes of fusions that copy, pad and convert. They use few resources."""
ENTRY = re.compile(r"\.entry ([\w$]+)\(")
ARCHITECTURE = re.compile(r"^\.target (sm_\w+)", re.MULTILINE)
REGISTERS = re.compile(r"Used (\d+) registers")
SHARED = re.compile(r"(\d+) bytes smem")
SPILLS = re.compile(r"(\d+) bytes spill (?:stores|loads)")
LAUNCH = re.compile(r"([\w$]+) grid: .*shared_memory: (\d+) bytes")
PATIENCE_SECONDS = 60.0
MOST_KERNELS = 12


def ask_for_dumps() -> Path:
    """Make XLA dump what it compiles in this process to a new folder. Call this before anything is compiled."""
    folder = Path(tempfile.mkdtemp(prefix="scorematrix-ptx-"))
    flags = f"{os.environ.get('XLA_FLAGS', '')} --xla_dump_to={folder} --xla_dump_hlo_as_text=true"
    os.environ["XLA_FLAGS"] = flags.strip()
    return folder


def find_assembler() -> str | None:
    """Return the path of NVIDIA's assembler: the CUDA plugin's, else one on PATH, else None."""
    for package, inside in PLACES.items():
        try:
            spec = importlib.util.find_spec(package)
        except ModuleNotFoundError:  # the parent package is missing
            continue
        for place in (spec.submodule_search_locations or []) if spec else []:
            if (path := Path(place) / inside).is_file():
                return str(path)
    return shutil.which("ptxas")


def attention_kernels(folder: Path, text: str, assembler: str | None) -> list[dict[str, Any]]:
    """Return the dumped attention kernels in the form of `results.KernelResources`, most registers first.

    The dumps are deleted.

    Args:
        text: HLO of the compiled programs. Its scopes identify attention kernels.
        assembler: from `find_assembler`; if None, the result is empty.
    """
    parts, kernels = kernel_parts(text), []
    launched = {
        name: int(size) for p in folder.glob("*thunk_sequence.txt") for name, size in LAUNCH.findall(p.read_text())
    }
    for path in sorted(folder.glob("*.ptx")):
        ptx = path.read_text()
        named = [name for name in ENTRY.findall(ptx) if name in parts]
        if assembler is not None and named and (architecture := ARCHITECTURE.search(ptx)):
            for name, taken in read_log(_assembled(assembler, architecture[1], path)):
                if name in parts:
                    shared = taken["shared_bytes"] + launched.get(name, 0)
                    kernels.append({"kernel": name, "part": parts[name], **taken, "shared_bytes": shared})
    for path in folder.iterdir():
        path.unlink()
    return sorted(kernels, key=lambda kernel: -kernel["registers"])[:MOST_KERNELS]


def kernel_parts(text: str) -> dict[str, str]:
    """Map each attention kernel's PTX name to its part. That name is the instruction's, or our Pallas kernel's.

    Elementwise kernels are left out.
    """
    parts = {}
    for name, scope in scopes_of(text):
        if (part := part_of(scope)) in ATTENTION:
            *_, above, last = ["", *scope.split("/")]
            parts[above if last == "pallas_call" else name.replace(".", "_").replace("-", "_")] = part
    return {name: part for name, part in parts.items() if not name.startswith(ELEMENTWISE)}


def read_log(log: str) -> Iterator[tuple[str, dict[str, int]]]:
    """Yield each kernel with its registers, shared bytes and spilled bytes, from the output of `ptxas -v`."""
    for section in log.split("Compiling entry function '")[1:]:
        name, _, rest = section.partition("'")
        if registers := REGISTERS.search(rest):
            shared = SHARED.search(rest)
            yield (
                name,
                {
                    "registers": int(registers[1]),
                    "shared_bytes": int(shared[1]) if shared else 0,
                    "spill_bytes": sum(map(int, SPILLS.findall(rest))),
                },
            )


def _assembled(assembler: str, architecture: str, path: Path) -> str:
    command = [assembler, "-v", f"-arch={architecture}", "-o", os.devnull, str(path)]
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_SECONDS).stderr
    except (OSError, subprocess.TimeoutExpired):
        return ""
