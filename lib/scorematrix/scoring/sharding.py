"""Shard the best-native engines over several devices: the mesh, a device's share of the model, a replica's items.

Pure, for both frameworks. The layout and its reasons:

- **Two axes.** Items are split over `data`. Replicas of the model never wait for each other, so this axis scales best:
  use it while the model fits a chip. Weights are split over `model` as in Megatron: query, key and value heads and the
  feed-forward columns. The two products back to the residual stream (attention's output, `down`) give partial sums,
  and one all-reduce each completes them. These two all-reduces per layer are in float32, because the residual stream
  is float32 on one device. Nothing else crosses devices before the scores.
- **Each replica computes the query once**, split over its model axis like everything else. Each device makes the keys
  and values of exactly the heads that its query heads use, so nothing is gathered, and the attention kernels (Pallas,
  cuDNN, PyTorch's flash) run on a share as on the full model. The price: replicas repeat the query, so the data axis
  divides the items' tokens only. With Q query and L item tokens, `data` replicas gain at most
  (Q + L) / (Q + L / data): 2.7 of 4 and 3.7 of 8 for the contract. Splitting the query over `data` as well would cost
  an all-gather of keys and values per layer and kernels with a causal offset.
- **Fewer key/value heads than shards:** a head is repeated for each shard that needs it, and no further. The same
  applies where a shard's query heads do not form complete groups. The arithmetic of every query head is unchanged.
  Query heads and feed-forward columns must divide evenly: padding would be computed and would hide in the time.
- **Embedding, norms and head are replicated.** The labels' rows of the head are few; norms are a vector.
- **Padding:** JAX runs one program everywhere, so the steps of its replicas share one shape, that of the fullest; a
  replica without an item computes padding. PyTorch's replicas are processes: each computes only its items, and one
  without items computes nothing.

Float32 sums over shards have another order than on one device: scores agree to 2e-5, not bit for bit.
"""

from __future__ import annotations

import dataclasses
import math

import numpy as np

from scorematrix.models.config import DecoderConfig
from scorematrix.models.weights import DecoderWeights
from scorematrix.scoring.mesh import Mesh


def repeated_kv(config: DecoderConfig, mesh: Mesh) -> DecoderConfig:
    """Return the config with key/value heads repeated until the model axis divides them; see `repeat_kv_heads`.

    Raises:
        ValueError: if the axis does not divide the query heads or the feed-forward columns.
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
    """Return the config of the part that one device of the model axis computes."""
    full = repeated_kv(config, mesh)
    return dataclasses.replace(
        full,
        n_heads=full.n_heads // mesh.model,
        n_kv_heads=full.n_kv_heads // mesh.model,
        ffn_size=full.ffn_size // mesh.model,
    )


def repeat_kv_heads(
    config: DecoderConfig, weights: DecoderWeights[np.ndarray], mesh: Mesh
) -> DecoderWeights[np.ndarray]:
    """Return the weights with each key/value head repeated in place; the same object if nothing is to repeat."""
    if (repeats := _repeats(config, mesh)) == 1:
        return weights
    layers = {}
    for name, leaf in ((f.name, getattr(weights.layers, f.name)) for f in dataclasses.fields(weights.layers)):
        if leaf is not None and "k" in letters(name):
            layers[name] = np.repeat(leaf, repeats, axis=letters(name).index("k"))
    return dataclasses.replace(weights, layers=dataclasses.replace(weights.layers, **layers))


def split_axis(leaf: str) -> int | None:
    """Return the dimension of a leaf that the model axis splits, heads or feed-forward columns; None: replicated."""
    return next((i for i, letter in enumerate(letters(leaf)) if letter in "nkf"), None)


def letters(leaf: str) -> str:
    """Return the dimension letters of a leaf, the end of its name."""
    return leaf.rsplit("_", 1)[1]


def _repeats(config: DecoderConfig, mesh: Mesh) -> int:
    """Return how many copies of each key/value head are needed.

    A copy serves the largest group of query heads that evenly divides both a head's group and a device's query heads.
    """
    group = config.n_heads // config.n_kv_heads
    return group // math.gcd(group, config.n_heads // mesh.model)
