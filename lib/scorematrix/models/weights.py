"""Weights as one framework-neutral tree with dimensions named by letters.

Letters: v vocabulary, d hidden, l layer, n query head, k key/value head, h head dimension, f feed-forward.
Layers are stacked on l, as `jax.lax.scan` needs and as a torch loop can index.
Every matrix has the layout [in..., out...], so that a token row times a matrix is the projection.
Leaves are numpy arrays as read, a framework's tensors once placed, or only shapes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, fields
from functools import cached_property
from typing import Generic, TypeVar

import numpy as np

from scorematrix.models.config import DecoderConfig

Leaf = TypeVar("Leaf")
Other = TypeVar("Other")


@dataclass(frozen=True)
class LayerWeights(Generic[Leaf]):
    """All decoder layers, stacked on the first dimension. Optional leaves are None where the
    architecture has none. Rotary pairs are (i, i + h/2), as in Hugging Face checkpoints."""

    attn_norm_ld: Leaf
    q_ldnh: Leaf
    k_ldkh: Leaf
    v_ldkh: Leaf
    o_lnhd: Leaf
    mlp_norm_ld: Leaf
    gate_ldf: Leaf
    up_ldf: Leaf
    down_lfd: Leaf
    q_bias_lnh: Leaf | None = None
    k_bias_lkh: Leaf | None = None
    v_bias_lkh: Leaf | None = None
    q_norm_lh: Leaf | None = None
    k_norm_lh: Leaf | None = None

    @cached_property
    def named(self) -> dict[str, Leaf]:
        """The leaves that the architecture has, by name, in the order of the fields."""
        leaves = ((field.name, getattr(self, field.name)) for field in fields(self))
        return {name: leaf for name, leaf in leaves if leaf is not None}

    def mapped(self, change: Callable[[Leaf], Other]) -> LayerWeights[Other]:
        """Return the tree with `change` applied to every leaf; absent leaves stay absent."""
        return LayerWeights(**{name: change(leaf) for name, leaf in self.named.items()})


@dataclass(frozen=True)
class DecoderWeights(Generic[Leaf]):
    """The complete tree. `head_vd` is the same array object as `embed_vd` if the head is tied."""

    embed_vd: Leaf
    layers: LayerWeights[Leaf]
    final_norm_d: Leaf
    head_vd: Leaf

    @classmethod
    def from_leaves(cls, leaves: Mapping[str, Leaf]) -> DecoderWeights[Leaf]:
        """Return the tree of leaves named as by `named_leaves`; without a `head_vd` the head is tied."""
        layers = {name.removeprefix("layers."): a for name, a in leaves.items() if name.startswith("layers.")}
        embed = leaves["embed_vd"]
        return cls(embed, LayerWeights(**layers), leaves["final_norm_d"], leaves.get("head_vd", embed))

    @cached_property
    def sha256(self: DecoderWeights[np.ndarray]) -> str:
        """Hash over names, dtypes, shapes and bytes of all leaves: equal weights, equal hash."""
        digest = hashlib.sha256()
        for name, array in self.named_leaves():
            digest.update(f"{name}:{array.dtype.name}:{array.shape};".encode())
            digest.update(np.ascontiguousarray(array).view(np.uint8).data)
        return digest.hexdigest()

    def named_leaves(self) -> Iterator[tuple[str, Leaf]]:
        """Yield leaf names and arrays in a fixed order; a tied head is not repeated."""
        yield "embed_vd", self.embed_vd
        for name, array in self.layers.named.items():
            yield f"layers.{name}", array
        yield "final_norm_d", self.final_norm_d
        if self.head_vd is not self.embed_vd:
            yield "head_vd", self.head_vd


def expected_shapes(config: DecoderConfig) -> dict[str, tuple[int, ...]]:
    """Return the shape of every leaf that a model of this config must have."""
    size = dict(
        v=config.vocab_size,
        d=config.hidden_size,
        l=config.n_layers,
        n=config.n_heads,
        k=config.n_kv_heads,
        h=config.head_dim,
        f=config.ffn_size,
    )
    absent = {"q_bias_lnh", "k_bias_lkh", "v_bias_lkh"} if not config.has_qkv_bias else set()
    absent |= {"q_norm_lh", "k_norm_lh"} if not config.has_qk_norm else set()
    names = ["embed_vd", *(f"layers.{f.name}" for f in fields(LayerWeights) if f.name not in absent), "final_norm_d"]
    names += [] if config.tied_head else ["head_vd"]
    return {name: tuple(size[letter] for letter in name.rsplit("_", 1)[1]) for name in names}


def check_weights(config: DecoderConfig, weights: DecoderWeights[np.ndarray]) -> None:
    """Refuse a tree that does not fit the config or has NaN or infinity.

    Raises:
        ValueError: naming the leaf, what it is and what it should be.
    """
    shapes = {name: array.shape for name, array in weights.named_leaves()}
    expected = expected_shapes(config)
    if missing := sorted(expected.keys() - shapes.keys()):
        raise ValueError(
            f"weights: {missing[0]} is missing; the checkpoint does not fit a {config.architecture} config"
        )
    if surplus := sorted(shapes.keys() - expected.keys()):
        raise ValueError(f"weights: {surplus[0]} is not part of a {config.architecture} model of this config")
    for name, array in weights.named_leaves():
        if array.shape != expected[name]:
            raise ValueError(f"weights: {name} has shape {array.shape}, the config requires {expected[name]}")
        layers = array if name.startswith("layers.") else array[None]
        if not all(np.isfinite(layer.astype(np.float32, copy=False)).all() for layer in layers):
            raise ValueError(f"weights: {name} has NaN or infinity; the checkpoint is damaged, fetch it again")
