"""Set up a fresh process alike for both frameworks, before either is imported; find processes that compute for it."""

from __future__ import annotations

import contextlib
import ctypes
import os
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

import psutil

from scorematrix.results.schema import Waiting


def own_processes() -> list[psutil.Process]:
    """Return this process and the workers that it started."""
    me = psutil.Process()
    return [me, *me.children(recursive=True)]


def processes_at(address: str) -> list[psutil.Process] | None:
    """Return the processes that serve an address, or None if it is of another machine.

    Empty if they cannot be seen: nothing listens there, or it is another user's, or in a container.
    """
    url = urlsplit(address)
    port = url.port or (443 if url.scheme == "https" else 80)
    ours = {one.address for interface in psutil.net_if_addrs().values() for one in interface}
    try:
        if not {"0.0.0.0", "::", *ours} & {info[4][0] for info in socket.getaddrinfo(url.hostname, port)}:
            return None
    except OSError:
        return None
    try:
        listening = [one for one in psutil.net_connections("tcp") if one.status == psutil.CONN_LISTEN and one.pid]
        servers = [psutil.Process(one.pid) for one in listening if one.laddr and one.laddr.port == port]
        return list(dict.fromkeys(of for server in servers for of in [server, *server.children(recursive=True)]))
    except psutil.Error:
        return []


WAITING: dict[Waiting, dict[str, str]] = {
    "spinning": {},
    "passive": {"OMP_WAIT_POLICY": "passive", "GOMP_SPINCOUNT": "0", "KMP_BLOCKTIME": "0"},
}
"""Variables that OpenMP libraries (libgomp, libiomp) read when they are loaded."""
SPINNING = {"GOMP_SPINCOUNT": "300000"}
"""libgomp's default, written out: a server whose threads wait passively unless told otherwise then knows the choice."""


def sets_waiting(variables: Mapping[str, str]) -> bool:
    """Return whether environment variables set how OpenMP threads wait."""
    return any(name in variables for name in WAITING["passive"])


def wait_passively() -> None:
    """Let OpenMP threads sleep while they wait, unless the user's environment sets how they wait."""
    if not sets_waiting(os.environ):
        os.environ |= WAITING["passive"]


KEPT_MEMORY = {"MALLOC_MMAP_MAX_": (-4, 0), "MALLOC_TRIM_THRESHOLD_": (-1, -1)}
"""glibc's variables for a process that keeps freed memory, each with its number and value for `mallopt`.

The number of arenas stays: with one for all threads, a call of JAX takes up to 7 % longer.
"""


def keep_freed_memory() -> None:
    """Let this process and its children keep freed memory, unless the user's environment configures glibc's allocator.

    By default it depends on the history of each process whether glibc returns a call's memory to the system and gets
    it back, page by page, in the next call. A call of benchmark S then took PyTorch up to 17 % longer in some processes
    than in others. Other allocators ignore this.
    """
    if any(name.startswith("MALLOC_") or name == "GLIBC_TUNABLES" for name in os.environ):
        return  # also a child: glibc reads the variables when a process starts
    os.environ |= {name: str(value % 2**63) for name, (_, value) in KEPT_MEMORY.items()}
    with contextlib.suppress(OSError, AttributeError):
        mallopt = ctypes.CDLL(None).mallopt
        for option, value in KEPT_MEMORY.values():
            mallopt(option, value)


def set_up_process(
    device: Literal["cpu", "gpu", "tpu"],
    threads: int | Literal["auto"],
    compile_cache: Path,
    waiting: Waiting = "passive",
) -> None:
    """Pin this process to `threads` cores and set the variables that the frameworks read on import.

    Both frameworks size their thread pools by these: XLA by the affinity, PyTorch by OMP_NUM_THREADS (rule 7). Freed
    memory is kept.

    Raises:
        ValueError: if `threads` exceeds the cores that this process may use.
    """
    cores = sorted(os.sched_getaffinity(0))
    n_threads = len(cores) if threads == "auto" else threads
    if n_threads > len(cores):
        raise ValueError(f"threads={n_threads} is more than the {len(cores)} cores of this process; use auto or fewer")
    os.sched_setaffinity(0, cores[:n_threads])
    keep_freed_memory()
    for name in WAITING["passive"]:
        os.environ.pop(name, None)
    os.environ |= {
        **WAITING[waiting],
        "OMP_NUM_THREADS": str(n_threads),
        "MKL_NUM_THREADS": str(n_threads),
        "JAX_PLATFORMS": {"cpu": "cpu", "gpu": "cuda", "tpu": "tpu"}[device],
        "XLA_PYTHON_CLIENT_PREALLOCATE": "false",  # processes of a group share a GPU's memory
        "JAX_COMPILATION_CACHE_DIR": str(compile_cache / "jax"),
        "TORCHINDUCTOR_CACHE_DIR": str(compile_cache / "inductor"),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
        "TOKENIZERS_PARALLELISM": "false",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "KINETO_LOG_LEVEL": "99",  # PyTorch's profiler says on the terminal when it starts and stops
    }
