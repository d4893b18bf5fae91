"""Choose the JAX device and number format that a backend runs on, and move the weights there."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable
from typing import Any, Protocol, cast

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
from jaxtyping import Array

from scorematrix.models.catalogue import Model
from scorematrix.models.config import DecoderConfig
from scorematrix.models.weights import DecoderWeights, LayerWeights, expected_shapes
from scorematrix.scoring.contract import AskedDType, BackendInfo, CompileEvent, DType
from scorematrix.scoring.jax.compiles import persistent_cache_hits
from scorematrix.scoring.precision import auto_dtype
from scorematrix.scoring.shared_prefix import CPU_STEP_BYTES

for _tree in (DecoderWeights, LayerWeights):
    jax.tree_util.register_dataclass(_tree, [f.name for f in dataclasses.fields(_tree)], [])


class Device(Protocol):
    """The part of `jax.Device` that we use. JAX ships no type hints for it."""

    platform: str
    device_kind: str

    def memory_stats(self) -> dict[str, int] | None:
        """Bytes in use and their limit; None where the platform does not count them."""
        ...


Placement = Callable[[str], jax.sharding.Sharding]
"""From the name of a leaf of the weights to its sharding."""


def choose_device(device: str) -> Device:
    """Return the first device of a kind; "auto" is JAX's default.

    Raises:
        ValueError: naming the kind and the devices that JAX sees.
    """
    if device == "auto":
        return jax.devices()[0]
    try:
        return jax.devices(device)[0]
    except RuntimeError as error:
        seen = ", ".join(d.device_kind for d in jax.devices())
        raise ValueError(f"device={device!r}: JAX sees no such device (it sees: {seen}); {error}") from None


def choose_dtype(dtype: AskedDType, device: Device) -> tuple[DType, str]:
    """Return the number format of weights and activations, and why it was chosen."""
    return auto_dtype(device.platform) if dtype == "auto" else (dtype, "asked for")


def place_weights(
    weights: DecoderWeights[np.ndarray], dtype: DType, where: Device | Placement
) -> DecoderWeights[Array]:
    """Move the weights to the device, or the devices, in one number format. A tied head stays one array."""
    target, place = np.dtype(np.float32 if dtype == "float32" else ml_dtypes.bfloat16), _placement(where)
    placed = {id(a): jax.device_put(a.astype(target, copy=False), place(name)) for name, a in weights.named_leaves()}
    return DecoderWeights(
        embed_vd=placed[id(weights.embed_vd)],
        layers=weights.layers.mapped(lambda a: placed[id(a)]),
        final_norm_d=placed[id(weights.final_norm_d)],
        head_vd=placed[id(weights.head_vd)],
    )


def step_budget_bytes(device: Device) -> int:
    """Return one step's working memory: 0.5 GiB on a CPU, a tenth of an accelerator's. All processes get the same."""
    if device.platform == "cpu":
        return CPU_STEP_BYTES
    return int((device.memory_stats() or {}).get("bytes_limit", 16 << 30) // 10)


def weight_shapes(config: DecoderConfig, dtype: str, where: Device | Placement) -> DecoderWeights[jax.ShapeDtypeStruct]:
    """Return the shapes of what `place_weights` would return: enough to compile for an absent device."""
    place = _placement(where)
    leaves = {
        name.removeprefix("layers."): jax.ShapeDtypeStruct(shape, jnp.dtype(dtype), sharding=place(name))
        for name, shape in expected_shapes(config).items()
    }
    layers = LayerWeights(**{f.name: leaves[f.name] for f in dataclasses.fields(LayerWeights) if f.name in leaves})
    embed_vd = leaves["embed_vd"]
    return DecoderWeights(embed_vd, layers, leaves["final_norm_d"], leaves.get("head_vd", embed_vd))


def _placement(where: Device | Placement) -> Placement:
    if callable(where):
        return cast("Placement", where)  # a device cannot be called
    sharding = jax.sharding.SingleDeviceSharding(where)
    return lambda name: sharding


def compile_ahead(
    function: jax.stages.Wrapped,
    arguments: tuple[Any, ...],
    device: Device,
    name: str,
    *,
    tuned: bool = False,
    traced: bool = False,
) -> tuple[jax.stages.Compiled, CompileEvent]:
    """Trace and compile a jitted function for arguments that may be shapes only.

    Args:
        device: the one to compile for, or one of several.
        tuned: use the best-native views' `compiler_options`.
        traced: use no CUDA graphs, so that a profiler sees every kernel.
    """
    hits = persistent_cache_hits()
    start = time.perf_counter()
    platform = {"gpu": "cuda"}.get(device.platform, device.platform)  # JAX knows "gpu" only on a machine that has one
    lowered = function.trace(*arguments).lower(lowering_platforms=(platform,))
    middle = time.perf_counter()
    options = compiler_options(device) if tuned else {}
    if traced and device.platform == "gpu":
        options["xla_gpu_enable_command_buffer"] = ""
    compiled = lowered.compile(compiler_options=options or None)
    end = time.perf_counter()
    return compiled, CompileEvent(name, middle - start, end - middle, persistent_cache_hits() > hits)


def compiler_options(device: Device) -> dict[str, Any]:
    """Return the best-native views' options for XLA: on a CPU, full AVX-512 registers if available."""
    return {"xla_cpu_prefer_vector_width": 512} if device.platform == "cpu" else {}


def describe(model: Model, view: str, device: Device, dtype: DType, **settings: str | int) -> BackendInfo:
    """Describe what was loaded, for the record."""
    precision = {
        "float32": "float32 products (jax precision HIGHEST), float32 sums",
        "bfloat16": "bfloat16 products, float32 sums; attention scores, softmax and head float32",
    }[dtype]
    return BackendInfo(
        backend="jax",
        view=view,
        framework="jax",
        device=device.device_kind,
        dtype=dtype,
        precision=precision,
        settings={"jit": True, "ahead_of_time": True, "jax": jax.__version__, "model": model.name, **settings},
    )


def compute_dtype(dtype: str) -> jnp.dtype:
    """Return the jnp dtype of activations."""
    return jnp.dtype(dtype)
