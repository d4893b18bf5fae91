"""What attention kernels of a CUDA program take of a multiprocessor, from what XLA writes down while it compiles.

XLA makes PTX for each kernel; NVIDIA's assembler, which comes with the CUDA plugin, says how many registers it takes
and what it spills. cuDNN's kernels are chosen where the GPU is and are not among them.
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
"""Where NVIDIA's packages for CUDA 12 and 13 have the assembler."""
ELEMENTWISE = ("loop_", "wrapped_")
"""How XLA names fusions that copy, pad and convert: nothing of theirs is scarce."""
ENTRY = re.compile(r"\.entry ([\w$]+)\(")
ARCHITECTURE = re.compile(r"^\.target (sm_\w+)", re.MULTILINE)
REGISTERS = re.compile(r"Used (\d+) registers")
SHARED = re.compile(r"(\d+) bytes smem")
SPILLS = re.compile(r"(\d+) bytes spill (?:stores|loads)")
LAUNCH = re.compile(r"([\w$]+) grid: .*shared_memory: (\d+) bytes")
PATIENCE_SECONDS = 60.0
MOST_KERNELS = 12


def ask_for_dumps() -> Path:
    """Have XLA write down what it compiles in this process, in a folder of its own; before anything is compiled."""
    folder = Path(tempfile.mkdtemp(prefix="scorematrix-ptx-"))
    flags = f"{os.environ.get('XLA_FLAGS', '')} --xla_dump_to={folder} --xla_dump_hlo_as_text=true"
    os.environ["XLA_FLAGS"] = flags.strip()
    return folder


def find_assembler() -> str | None:
    """NVIDIA's assembler: the CUDA plugin's, or one on the path."""
    for package, inside in PLACES.items():
        try:
            spec = importlib.util.find_spec(package)
        except ModuleNotFoundError:  # not even the package above it
            continue
        for place in (spec.submodule_search_locations or []) if spec else []:
            if (path := Path(place) / inside).is_file():
                return str(path)
    return shutil.which("ptxas")


def attention_kernels(folder: Path, text: str, assembler: str | None) -> list[dict[str, Any]]:
    """The attention kernels that were dumped, in the form of `results.KernelResources`, those of most registers first.

    The dumps are deleted.

    Args:
        text: HLO of the compiled programs, whose scopes tell which kernel is attention's.
        assembler: of `find_assembler`; without one there is nothing to tell.
    """
    parts, found = kernel_parts(text), []
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
                    found.append({"kernel": name, "part": parts[name], **taken, "shared_bytes": shared})
    for path in folder.iterdir():
        path.unlink()
    return sorted(found, key=lambda kernel: -kernel["registers"])[:MOST_KERNELS]


def kernel_parts(text: str) -> dict[str, str]:
    """The part of each attention kernel by its name in PTX: its instruction's, or what a kernel of ours is called.

    Elementwise kernels are left out.
    """
    parts = {}
    for name, scope in scopes_of(text):
        if (part := part_of(scope)) in ATTENTION:
            *_, above, last = ["", *scope.split("/")]
            parts[above if last == "pallas_call" else name.replace(".", "_").replace("-", "_")] = part
    return {name: part for name, part in parts.items() if not name.startswith(ELEMENTWISE)}


def read_log(log: str) -> Iterator[tuple[str, dict[str, int]]]:
    """(kernel, registers, shared and spilled bytes) from what `ptxas -v` writes."""
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
