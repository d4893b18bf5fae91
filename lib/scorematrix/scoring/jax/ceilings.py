"""JAX's part of `scoring.ceilings`."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp

from scorematrix.scoring.jax import device as devices
from scorematrix.scoring.jax.model import einsum


def matmul(size: int, dtype: str, device_kind: str) -> Callable[[], None]:
    """Return a function that runs a square product with float32 sums and result, as the engines use it."""
    keys = jax.random.split(jax.random.key(0))
    a, b = (jax.random.normal(key, (size, size), devices.compute_dtype(dtype)) for key in keys)
    a, b = jax.device_put((a, b), devices.choose_device(device_kind))
    product = jax.jit(lambda a, b: einsum("ij,jk->ik", a, b, a.dtype))
    return lambda: product(a, b).block_until_ready()


def copy(n_bytes: int, device_kind: str) -> Callable[[], None]:
    """Return a function that copies on the device. It flips the sign, so that no compiler removes the copy."""
    device = devices.choose_device(device_kind)
    buffers = [jax.device_put(jnp.full(n_bytes // 4, value), device) for value in (1.0, 2.0)]
    # The result is written to the older, donated buffer, so that the timed call allocates no memory.
    negate = jax.jit(lambda x, room: -x, donate_argnums=1, keep_unused=True)

    def run() -> None:
        buffers[:] = negate(*buffers).block_until_ready(), buffers[0]

    return run
