"""Rotary frequencies, computed once in float64 for both frameworks."""

from __future__ import annotations

import math

import numpy as np
from jaxtyping import Float

from scorematrix.models.config import DecoderConfig


def inverse_frequencies(config: DecoderConfig) -> Float[np.ndarray, " half_head"]:
    """Return radians per position of each rotary pair, float32 [head_dim / 2], with Llama 3's scaling if configured.

    Llama 3 leaves short wavelengths alone, divides the frequency of long ones by `factor`, and blends between.
    Source: Hugging Face transformers, `rope_type="llama3"`.
    """
    frequency = config.rope_theta ** -(np.arange(0, config.head_dim, 2, dtype=np.float64) / config.head_dim)
    if (scaling := config.rope_scaling) is not None:
        wavelength = 2 * math.pi / frequency
        turns = scaling.original_max_positions / wavelength
        blend = (turns - scaling.low_freq_factor) / (scaling.high_freq_factor - scaling.low_freq_factor)
        blend = np.clip(blend, 0.0, 1.0)
        frequency = frequency * (blend + (1 - blend) / scaling.factor)
    return frequency.astype(np.float32)
