"""The description of a decoder that all engines and weight readers share."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields


@dataclass(frozen=True)
class Architecture:
    """How a family of decoders differs from Llama.

    Attributes:
        hf_class: its class in Hugging Face transformers; config.json names it.
        qkv_bias: the query, key and value projections have a bias.
        qk_norm: each query and key head is normalised before the rotary embedding.
        norm_offset: a norm multiplies by its weight plus this.
        scaled_embedding: embeddings are multiplied by the root of their size.
        gelu: the feed-forward gate is the tanh form of GELU, not SiLU.
        tied_head: whether the head is tied if config.json does not say.
        in_gguf: whether GGUF files store its weights and constants as Hugging Face does, but for Llama's order of
            rotary pairs.
    """

    hf_class: str
    qkv_bias: bool = False
    qk_norm: bool = False
    norm_offset: float = 0.0
    scaled_embedding: bool = False
    gelu: bool = False
    tied_head: bool = False
    in_gguf: bool = True


ARCHITECTURES = {
    "llama": Architecture("LlamaForCausalLM"),
    "qwen2": Architecture("Qwen2ForCausalLM", qkv_bias=True),
    "qwen3": Architecture("Qwen3ForCausalLM", qk_norm=True),
    "gemma": Architecture(
        "GemmaForCausalLM", norm_offset=1.0, scaled_embedding=True, gelu=True, tied_head=True, in_gguf=False
    ),
}
"""The supported architectures, by their names in GGUF files and `model_type`. Each needs a shape `tiny-<name>`."""


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
    """Shape and constants of a decoder of one of `ARCHITECTURES`.

    Sizes are counts of elements. `head_dim` is a separate field, because Qwen3's is not
    hidden_size / n_heads. Query heads share key/value heads in groups of n_heads / n_kv_heads.
    """

    architecture: str
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
        if self.architecture not in ARCHITECTURES:
            raise ValueError(
                f"model config: architecture={self.architecture!r} is not supported; "
                f"supported: {', '.join(ARCHITECTURES)}"
            )
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
    def family(self) -> Architecture:
        """How its architecture differs from Llama."""
        return ARCHITECTURES[self.architecture]

    @property
    def embedding_scale(self) -> float:
        """Factor of the embeddings."""
        return math.sqrt(self.hidden_size) if self.family.scaled_embedding else 1.0

    @property
    def has_qkv_bias(self) -> bool:
        """Whether the query, key and value projections have a bias."""
        return self.family.qkv_bias

    @property
    def has_qk_norm(self) -> bool:
        """Whether each query and key head is normalised before the rotary embedding."""
        return self.family.qk_norm

    @property
    def n_params(self) -> int:
        """Number of weights, a tied head counted once."""
        d, h = self.hidden_size, self.head_dim
        attention = d * h * (2 * self.n_heads + 2 * self.n_kv_heads)
        bias = h * (self.n_heads + 2 * self.n_kv_heads) if self.has_qkv_bias else 0
        qk_norm = 2 * h if self.has_qk_norm else 0
        layer = attention + bias + qk_norm + 3 * d * self.ffn_size + 2 * d
        return self.n_layers * layer + d + self.vocab_size * d * (1 if self.tied_head else 2)
