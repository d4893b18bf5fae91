"""Count the floating-point operations that scoring needs mathematically, whatever the implementation."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from scorematrix.models.config import DecoderConfig


def forward_flops(config: DecoderConfig, n_tokens: int, n_pairs: int) -> int:
    """Count multiplications and additions of the decoder over tokens and (token, key) pairs, without the head.

    Every token goes through every layer. An engine that skips results nobody reads, most of the last layer, saves
    at most one layer's share.
    """
    return linear_flops(config, n_tokens) + pair_flops(config, n_pairs)


def linear_flops(config: DecoderConfig, n_tokens: int) -> int:
    """Count the products with weights, in all layers."""
    d, h = config.hidden_size, config.head_dim
    weights = d * h * (2 * config.n_heads + 2 * config.n_kv_heads) + 3 * d * config.ffn_size
    return config.n_layers * 2 * weights * n_tokens


def pair_flops(config: DecoderConfig, n_pairs: int) -> int:
    """Count attention over (token, key) pairs, in all layers."""
    return config.n_layers * 4 * config.n_heads * config.head_dim * n_pairs


def scoring_flops(config: DecoderConfig, query_tokens: int, item_tokens: Sequence[int]) -> int:
    """Count the fewest operations that score a query exactly: the query once, each item over it and itself."""
    n_tokens = query_tokens + sum(item_tokens)
    n_pairs = _causal(query_tokens) + sum(length * query_tokens + _causal(length) for length in item_tokens)
    return forward_flops(config, n_tokens, n_pairs)


def workload_flops(config: DecoderConfig, shapes: Iterable[tuple[int, Sequence[int]]]) -> int:
    """Sum `scoring_flops` over all requests, each given as (query tokens, tokens of each item)."""
    return sum(scoring_flops(config, query_tokens, item_tokens) for query_tokens, item_tokens in shapes)


def _causal(n: int) -> int:
    return n * (n + 1) // 2
