"""The description of a decoder that all engines and weight readers share."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Literal

Architecture = Literal["llama", "qwen2", "qwen3"]


@dataclass(frozen=True)
class RopeScaling:
    """Llama 3's frequency-dependent scaling of the rotary wavelengths.

    Source: Hugging Face `rope_scaling` with `rope_type: llama3`.
    """

    factor: float
    low_freq_factor: float
    high_freq_factor: float
    original_max_positions: int


@dataclass(frozen=True)
class DecoderConfig:
    """Shape and constants of a Llama, Qwen2 or Qwen3 decoder.

    Sizes are counts of elements. `head_dim` is a separate field, because Qwen3's is not
    hidden_size / n_heads. Query heads share key/value heads in groups of n_heads / n_kv_heads.
    """

    architecture: Architecture
    vocab_size: int
    hidden_size: int
    n_layers: int
    n_heads: int
    n_kv_heads: int
    head_dim: int
    ffn_size: int
    max_positions: int
    rms_norm_eps: float
    rope_theta: float
    rope_scaling: RopeScaling | None = None
    tied_head: bool = True

    def __post_init__(self) -> None:
        for name in (field.name for field in fields(self) if field.type == "int"):
            value = getattr(self, name)
            if not isinstance(value, int) or value < 1:
                raise ValueError(f"model config: {name}={value!r} must be an integer of at least 1")
        if self.n_heads % self.n_kv_heads:
            raise ValueError(
                f"model config: n_heads={self.n_heads} is not a multiple of n_kv_heads={self.n_kv_heads}; "
                "grouped-query attention needs groups of equal size"
            )
        if self.head_dim % 2:
            raise ValueError(f"model config: head_dim={self.head_dim} is odd; rotary embedding pairs its halves")

    @property
    def has_qkv_bias(self) -> bool:
        """Qwen2 adds a bias to the query, key and value projections."""
        return self.architecture == "qwen2"

    @property
    def has_qk_norm(self) -> bool:
        """Qwen3 normalises each query and key head before the rotary embedding."""
        return self.architecture == "qwen3"

    @property
    def n_params(self) -> int:
        """Number of weights, a tied head counted once."""
        d, h = self.hidden_size, self.head_dim
        attention = d * h * (2 * self.n_heads + 2 * self.n_kv_heads)
        bias = h * (self.n_heads + 2 * self.n_kv_heads) if self.has_qkv_bias else 0
        qk_norm = 2 * h if self.has_qk_norm else 0
        layer = attention + bias + qk_norm + 3 * d * self.ffn_size + 2 * d
        return self.n_layers * layer + d + self.vocab_size * d * (1 if self.tied_head else 2)
