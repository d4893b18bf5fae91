"""Make seeded weights of a named shape, for machines that cannot download and for small tests."""

from __future__ import annotations

import functools
import math
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from scorematrix.models.config import DecoderConfig, RopeScaling
from scorematrix.models.weights import DecoderWeights, expected_shapes

RANDOM_SHAPES: dict[str, DecoderConfig] = {
    "qwen3-0.6b": DecoderConfig("qwen3", 151936, 1024, 28, 16, 8, 128, 3072, 40960, 1e-6, 1e6),
    "qwen2.5-0.5b": DecoderConfig("qwen2", 151936, 896, 24, 14, 2, 64, 4864, 32768, 1e-6, 1e6),
    "llama-3.2-1b": DecoderConfig(
        "llama", 128256, 2048, 16, 32, 8, 64, 8192, 131072, 1e-5, 5e5, RopeScaling(32.0, 1.0, 4.0, 8192)
    ),
    "smollm2-135m": DecoderConfig("llama", 49152, 576, 30, 9, 3, 64, 1536, 8192, 1e-5, 1e5),
    "tiny-llama": DecoderConfig(
        "llama", 256, 64, 3, 4, 2, 16, 96, 512, 1e-6, 1e4, RopeScaling(8.0, 1.0, 4.0, 64), tied_head=False
    ),
    "tiny-qwen2": DecoderConfig("qwen2", 256, 64, 3, 4, 2, 16, 96, 512, 1e-6, 1e4),
    "tiny-qwen3": DecoderConfig("qwen3", 256, 64, 3, 4, 2, 32, 96, 512, 1e-6, 1e4),
    "tiny-gemma": DecoderConfig("gemma", 256, 64, 3, 4, 1, 32, 96, 512, 1e-6, 1e4, tied_head=False),
}
"""Architecture, vocabulary, hidden, layers, query and key heads, their size, feed-forward, positions, eps, theta."""


def random_weights(config: DecoderConfig, seed: int) -> DecoderWeights[np.ndarray]:
    """Make float32 weights, the same on every platform for the same seed.

    They are scaled by fan-in, so that activations keep their size and the logits of different items differ.
    """
    shapes = expected_shapes(config)
    streams = [np.random.Generator(np.random.PCG64(child)) for child in np.random.SeedSequence(seed).spawn(len(shapes))]
    leaf = functools.partial(_leaf, 1 - config.family.norm_offset)
    with ThreadPoolExecutor() as threads:  # numpy draws without Python's lock
        leaves = dict(zip(shapes, threads.map(leaf, streams, shapes.keys(), shapes.values()), strict=True))
    return DecoderWeights.from_leaves(leaves)


def _leaf(norm_mean: float, rng: np.random.Generator, name: str, shape: tuple[int, ...]) -> np.ndarray:
    array = rng.standard_normal(shape, dtype=np.float32)
    if "norm" in name:
        return norm_mean + 0.1 * array
    if "bias" in name:
        return 0.1 * array
    letters = name.rsplit("_", 1)[1]
    if letters == "vd":  # logits of unit-size hidden states come out with a spread of about 2
        array *= np.float32(2.0 / math.sqrt(shape[1]))
        return array
    fan_in = math.prod(
        n
        for n, letter in zip(shape, letters, strict=True)
        if letter in ("nh" if name.endswith("o_lnhd") else "f" if letters == "lfd" else "d")
    )
    array *= np.float32(1.0 / math.sqrt(fan_in))
    return array
