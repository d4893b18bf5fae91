"""Sharding the best-native engines over several devices: the mesh, a device's share of the model, a replica's items.

Pure, for both frameworks. The layout, and why:

- **Two axes.** Items go over `data`: replicas of the model never wait for each other, so this axis scales best and is
  the one to use while the model fits a chip. Weights go over `model`, in Megatron's way: query, key and value heads and
  the feed-forward columns are split, the two products back to the residual stream (attention's output, `down`) are
  partial sums that one all-reduce each makes whole. Two all-reduces a layer, of float32, because the residual stream is
  float32 on one device; nothing else crosses devices before the scores.
- **The query is computed once a replica**, split over that replica's model axis like everything else: each device
  makes the keys and values of the very heads that its own query heads look at, so nothing is gathered, and the
  attention kernels (Pallas, cuDNN, PyTorch's flash) run on a share as they run on the whole. The price: replicas repeat
  the query, so the data axis divides the items' tokens only. Q query and L item tokens on `data` replicas gain at most
  (Q + L) / (Q + L / data): 2.7 of 4 and 3.7 of 8 for the contract. Splitting the query over `data` as well would cost
  an all-gather of keys and values a layer and kernels with a causal offset.
- **Fewer key/value heads than shards:** a head is repeated for each shard that needs it, no further, and so wherever a
  shard's query heads do not fall into whole groups; the arithmetic of every query head stays what it was. Query heads
  and feed-forward columns must divide evenly: padding would be computed and would hide in the time.
- **Embedding, norms and head are replicated.** The labels' rows of the head are few; norms are a vector.
- **Padding:** JAX runs one program everywhere, so its replicas' steps have one shape, that of the fullest; a replica
  without an item computes padding. PyTorch's replicas are processes, each with what it has, and none without work.

Float32 sums over shards come in another order than on one device: scores agree to 2e-5, not to the bit.
"""

from __future__ import annotations

import dataclasses
import math

import numpy as np

from scorematrix.models.config import DecoderConfig
from scorematrix.models.weights import DecoderWeights
from scorematrix.scoring.mesh import Mesh


def repeated_kv(config: DecoderConfig, mesh: Mesh) -> DecoderConfig:
    """The same model with each key/value head so often that the model axis splits them: see `repeat_kv_heads`.

    Raises:
        ValueError: where the axis does not divide the query heads or the feed-forward columns.
    """
    for name in ("n_heads", "ffn_size"):
        value = getattr(config, name)
        if value % mesh.model:
            fit = [n for n in range(1, mesh.model) if config.n_heads % n == config.ffn_size % n == 0]
            raise ValueError(
                f"mesh={str(mesh)!r}: model={mesh.model} does not divide the model's {name}={value}; "
                f"use model={fit[-1]}"
            )
    return dataclasses.replace(config, n_kv_heads=config.n_kv_heads * _repeats(config, mesh))


def device_share(config: DecoderConfig, mesh: Mesh) -> DecoderConfig:
    """What one device of the model axis computes, as a config of its own."""
    whole = repeated_kv(config, mesh)
    return dataclasses.replace(
        whole,
        n_heads=whole.n_heads // mesh.model,
        n_kv_heads=whole.n_kv_heads // mesh.model,
        ffn_size=whole.ffn_size // mesh.model,
    )


def repeat_kv_heads(
    config: DecoderConfig, weights: DecoderWeights[np.ndarray], mesh: Mesh
) -> DecoderWeights[np.ndarray]:
    """The weights with each key/value head repeated in place; the very same tree where nothing is to repeat."""
    if (repeats := _repeats(config, mesh)) == 1:
        return weights
    layers = {}
    for name, leaf in ((f.name, getattr(weights.layers, f.name)) for f in dataclasses.fields(weights.layers)):
        if leaf is not None and "k" in letters(name):
            layers[name] = np.repeat(leaf, repeats, axis=letters(name).index("k"))
    return dataclasses.replace(weights, layers=dataclasses.replace(weights.layers, **layers))


def split_axis(leaf: str) -> int | None:
    """Which dimension of a leaf the model axis splits: the heads or the feed-forward columns; None: replicated."""
    return next((i for i, letter in enumerate(letters(leaf)) if letter in "nkf"), None)


def letters(leaf: str) -> str:
    """The dimensions of a leaf, by the end of its name."""
    return leaf.rsplit("_", 1)[1]


def _repeats(config: DecoderConfig, mesh: Mesh) -> int:
    """The largest groups of query heads that both a key/value head and a device hold whole; one copy for each."""
    group = config.n_heads // config.n_kv_heads
    return group // math.gcd(group, config.n_heads // mesh.model)
