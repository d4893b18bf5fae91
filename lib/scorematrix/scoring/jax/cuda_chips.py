"""Describe NVIDIA GPUs to XLA's CUDA compiler on a machine without one: the figures that a driver would report.

Sizes by compute capability are from the CUDA C++ Programming Guide (its table of technical specifications), the others
from each chip. JAX 0.10 with its CUDA 12 plugin compiled for each chip on a machine without a GPU. If a compiler needs
more figures, the cell's error says so.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from jax.experimental import topologies


class Chip(NamedTuple):
    """The figures that differ between GPUs; sizes in bytes, bandwidth in bytes per second."""

    name: str
    capability: tuple[int, int]
    cores: int
    clock_ghz: float
    l2_bytes: int
    memory_bytes: int
    bandwidth: int


class Core(NamedTuple):
    """The limits of a streaming multiprocessor of a compute capability."""

    threads: int
    shared_bytes: int
    shared_bytes_a_block: int


CHIPS = {
    "l4": Chip("NVIDIA L4", (8, 9), 58, 2.04, 48 << 20, 24 * 10**9, 300 * 10**9),
    "a100": Chip("NVIDIA A100-SXM4-80GB", (8, 0), 108, 1.41, 40 << 20, 80 * 10**9, 2039 * 10**9),
    "h100": Chip("NVIDIA H100 80GB HBM3", (9, 0), 132, 1.98, 50 << 20, 80 * 10**9, 3350 * 10**9),
    "h200": Chip("NVIDIA H200", (9, 0), 132, 1.98, 50 << 20, 141 * 10**9, 4800 * 10**9),
    "b200": Chip("NVIDIA B200", (10, 0), 148, 1.965, 126 << 20, 192 * 10**9, 8000 * 10**9),
    "rtx-pro-6000": Chip(
        "NVIDIA RTX PRO 6000 Blackwell Server Edition", (12, 0), 188, 2.6, 128 << 20, 96 * 10**9, 1597 * 10**9
    ),
}
CORES = {
    (8, 0): Core(2048, 164 << 10, 163 << 10),
    (8, 9): Core(1536, 100 << 10, 99 << 10),
    (9, 0): Core(2048, 228 << 10, 227 << 10),
    (10, 0): Core(2048, 228 << 10, 227 << 10),
    (12, 0): Core(1536, 100 << 10, 99 << 10),
}
CUDNN = (9, 10, 0)
"""The version of cuDNN that programs are compiled for."""


def compile_only_device(name: str) -> Any:
    """Return an absent device to compile for.

    Raises:
        NotImplementedError: if JAX's CUDA plugin is not installed.
    """
    return topologies.get_topology_desc(
        platform="cuda", target_config=target_config(CHIPS[name]), topology="1x1x1"
    ).devices[0]


def target_config(chip: Chip) -> str:
    """Return a `stream_executor.GpuTargetConfigProto` in its text form."""
    core, (major, minor), (dnn, dnn_minor, patch) = CORES[chip.capability], chip.capability, CUDNN
    return f"""
gpu_device_info {{
  threads_per_block_limit: 1024
  threads_per_warp: 32
  shared_memory_per_block: {48 << 10}
  shared_memory_per_core: {core.shared_bytes}
  shared_memory_per_block_optin: {core.shared_bytes_a_block}
  threads_per_core_limit: {core.threads}
  core_count: {chip.cores}
  fpus_per_core: 128
  block_dim_limit_x: {2**31 - 1}
  block_dim_limit_y: {2**16 - 1}
  block_dim_limit_z: {2**16 - 1}
  thread_dim_limit_x: 1024
  thread_dim_limit_y: 1024
  thread_dim_limit_z: 64
  registers_per_core_limit: {64 << 10}
  registers_per_block_limit: {64 << 10}
  memory_bandwidth: {chip.bandwidth}
  device_memory_size: {chip.memory_bytes}
  l2_cache_size: {chip.l2_bytes}
  clock_rate_ghz: {chip.clock_ghz}
  cuda_compute_capability {{ major: {major} minor: {minor} }}
}}
platform_name: "CUDA"
dnn_version_info {{ major: {dnn} minor: {dnn_minor} patch: {patch} }}
device_description_str: "{chip.name}"
"""
