"""Describe a round's machine and software by allow-list, without any account, host name or credential."""

from __future__ import annotations

import hashlib
import importlib.metadata
import os
import platform
import subprocess
import uuid
from pathlib import Path

import psutil

from scorematrix.privacy import redacted
from scorematrix.results.schema import Environment

PACKAGES = (
    "scorematrix",
    "jax",
    "jaxlib",
    "libtpu",
    "torch",
    "triton",
    "transformers",
    "numpy",
    "tokenizers",
    "gguf",
    "safetensors",
    "papermill",
)
VARIABLES = (
    "CUBLAS_WORKSPACE_CONFIG",
    "CUDA_CACHE_DISABLE",
    "CUDA_DEVICE_MAX_CONNECTIONS",
    "CUDA_DEVICE_ORDER",
    "CUDA_LAUNCH_BLOCKING",
    "CUDA_MODULE_LOADING",
    "CUDA_VISIBLE_DEVICES",
    "GLIBC_TUNABLES",
    "GOMP_CPU_AFFINITY",
    "GOMP_SPINCOUNT",
    "JAX_COMPILATION_CACHE_DIR",
    "JAX_CPU_COLLECTIVES_IMPLEMENTATION",
    "JAX_DEFAULT_DTYPE_BITS",
    "JAX_DEFAULT_MATMUL_PRECISION",
    "JAX_DISABLE_JIT",
    "JAX_ENABLE_COMPILATION_CACHE",
    "JAX_ENABLE_X64",
    "JAX_NUM_CPU_DEVICES",
    "JAX_PLATFORMS",
    "KMP_AFFINITY",
    "KMP_BLOCKTIME",
    "LIBTPU_INIT_ARGS",
    "MALLOC_MMAP_MAX_",
    "MALLOC_TRIM_THRESHOLD_",
    "MKL_DYNAMIC",
    "MKL_NUM_THREADS",
    "NVIDIA_TF32_OVERRIDE",
    "OMP_DYNAMIC",
    "OMP_NUM_THREADS",
    "OMP_PLACES",
    "OMP_PROC_BIND",
    "OMP_SCHEDULE",
    "OMP_WAIT_POLICY",
    "TF32_OVERRIDE",
    "TORCHDYNAMO_DISABLE",
    "TORCHINDUCTOR_CACHE_DIR",
    "TORCHINDUCTOR_FREEZING",
    "TORCHINDUCTOR_MAX_AUTOTUNE",
    "TORCH_ALLOW_TF32_CUBLAS_OVERRIDE",
    "TORCH_COMPILE_DISABLE",
    "TORCH_LOGS",
    "XLA_FLAGS",
    "XLA_PYTHON_CLIENT_ALLOCATOR",
    "XLA_PYTHON_CLIENT_MEM_FRACTION",
    "XLA_PYTHON_CLIENT_PREALLOCATE",
)
"""Variables whose values may change speed or scores."""
PREFIXES = ("JAX_", "TORCH", "CUDA_", "CUBLAS_", "OMP_", "GOMP_", "KMP_", "MALLOC_", "MKL_", "XLA_")
"""Of other variables with such names the result says only that they were set: a value may be a secret."""
NOT_RECORDED = "set, value not recorded"


def describe_environment() -> Environment:
    """Return the environment of this process now."""
    commit, dirty = git_state(Path(__file__).parent)
    return Environment(
        machine_sha256=hashlib.sha256(f"{platform.node()}:{machine_id()}".encode()).hexdigest(),
        cpu=cpu_name(),
        n_cores=os.cpu_count() or 1,
        affinity=sorted(os.sched_getaffinity(0)),
        memory_bytes=psutil.virtual_memory().total,
        load_average=os.getloadavg()[0],
        platform=f"{platform.system()} {platform.release()} {platform.machine()}",
        python=platform.python_version(),
        packages={name: version for name in PACKAGES if (version := package_version(name))},
        variables={
            name: redacted(f"{name}={value}").removeprefix(f"{name}=") if name in VARIABLES else NOT_RECORDED
            for name, value in sorted(os.environ.items())
            if name in VARIABLES or name.startswith(PREFIXES)
        },
        git_commit=commit,
        git_dirty=dirty,
    )


def machine_id() -> str:
    """Identify this machine: the same for all processes until the next boot.

    `uuid.getnode` alone is not enough: without a network card it returns a random number in each process.
    """
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return str(uuid.getnode())


def cpu_name() -> str:
    """Return the processor's model name."""
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return " ".join(line.split(":", 1)[1].split())
    except OSError:
        pass
    return platform.processor() or platform.machine()


def package_version(name: str) -> str | None:
    """Return the installed version without importing the package; None if it is absent."""
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def git_state(folder: Path) -> tuple[str | None, bool | None]:
    """Return the commit and whether tracked files differ from it; None without a checkout."""

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(folder), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=10).stdout.strip()

    try:
        return git("rev-parse", "HEAD"), bool(git("status", "--porcelain", "--untracked-files=no"))
    except (OSError, subprocess.SubprocessError):
        return None, None
