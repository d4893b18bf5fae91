"""Describe NVIDIA GPUs to XLA's CUDA compiler on a machine without one: the figures that a driver would report.

Sizes by compute capability are from the CUDA C++ Programming Guide (its table of technical specifications), the others
from each chip. JAX 0.10 with its CUDA 12 plugin compiled for each target on a machine without a GPU. If a compiler
needs more figures, the cell's error says so.
"""

from __future__ import annotations

from typing import Any, NamedTuple


class Chip(NamedTuple):
    """The figures of a GPU that its datasheet lacks; cores are streaming multiprocessors."""

    name: str
    capability: str
    cores: int
    clock_ghz: float
    l2_bytes: int


class Core(NamedTuple):
    """The limits of a streaming multiprocessor of a compute capability."""

    threads: int
    shared_bytes: int
    shared_bytes_a_block: int


CORES = {
    "8.0": Core(2048, 164 << 10, 163 << 10),
    "8.9": Core(1536, 100 << 10, 99 << 10),
    "9.0": Core(2048, 228 << 10, 227 << 10),
    "10.0": Core(2048, 228 << 10, 227 << 10),
    "12.0": Core(1536, 100 << 10, 99 << 10),
}
CUDNN = (9, 10, 0)
"""The version of cuDNN that programs are compiled for."""


def compile_only_device(chip: Chip, memory_bytes: int, bytes_per_second: float) -> Any:
    """Return an absent device to compile for; its memory's size and bandwidth are in bytes and bytes per second.

    Raises:
        NotImplementedError: if JAX's CUDA plugin is not installed.
    """
    from jax.experimental import topologies  # the table of targets imports this module without JAX

    config = target_config(chip, memory_bytes, bytes_per_second)
    return topologies.get_topology_desc(platform="cuda", target_config=config, topology="1x1x1").devices[0]


def target_config(chip: Chip, memory_bytes: int, bytes_per_second: float) -> str:
    """Return a `stream_executor.GpuTargetConfigProto` in its text form."""
    core, (major, minor), (dnn, dnn_minor, patch) = CORES[chip.capability], chip.capability.split("."), CUDNN
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
  memory_bandwidth: {round(bytes_per_second)}
  device_memory_size: {memory_bytes}
  l2_cache_size: {chip.l2_bytes}
  clock_rate_ghz: {chip.clock_ghz}
  cuda_compute_capability {{ major: {major} minor: {minor} }}
}}
platform_name: "CUDA"
dnn_version_info {{ major: {dnn} minor: {dnn_minor} patch: {patch} }}
device_description_str: "{chip.name}"
"""
