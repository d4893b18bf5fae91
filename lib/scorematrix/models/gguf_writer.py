"""Write the weight tree as a GGUF file, so that llama.cpp scores with exactly our engines' weights."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from scorematrix.models.config import DecoderConfig
from scorematrix.models.gguf_reader import GGUF_LEAVES
from scorematrix.models.weights import DecoderWeights


def write_gguf(path: Path, config: DecoderConfig, weights: DecoderWeights[np.ndarray], dtype: str) -> None:
    """Write a model without a vocabulary, because it is scored by token ids.

    Args:
        dtype: float32 or bfloat16, of the matrices; vectors stay float32, as llama.cpp wants them.

    Raises:
        ValueError: for llama3 rope scaling, which this writer does not support.
    """
    import gguf

    if config.rope_scaling is not None:
        raise ValueError(f"rope_scaling={config.rope_scaling} cannot be written to GGUF; choose a model without it")
    c, arch = config, config.architecture
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    writer = gguf.GGUFWriter(str(temporary), arch)
    writer.add_context_length(c.max_positions)
    writer.add_embedding_length(c.hidden_size)
    writer.add_block_count(c.n_layers)
    writer.add_feed_forward_length(c.ffn_size)
    writer.add_head_count(c.n_heads)
    writer.add_head_count_kv(c.n_kv_heads)
    writer.add_key_length(c.head_dim)
    writer.add_value_length(c.head_dim)
    writer.add_rope_dimension_count(c.head_dim)
    writer.add_rope_freq_base(c.rope_theta)
    writer.add_layer_norm_rms_eps(c.rms_norm_eps)
    writer.add_vocab_size(c.vocab_size)
    writer.add_tokenizer_model("no_vocab")

    def add(name: str, array: np.ndarray) -> None:
        array = np.ascontiguousarray(array, np.float32)
        if dtype == "bfloat16" and array.ndim == 2:
            kind = gguf.GGMLQuantizationType.BF16
            writer.add_tensor(name, gguf.quantize(array, kind), raw_dtype=kind)
        else:
            writer.add_tensor(name, array)

    add("token_embd.weight", weights.embed_vd)
    add("output_norm.weight", weights.final_norm_d)
    if not c.tied_head:
        add("output.weight", weights.head_vd)
    for leaf, part in GGUF_LEAVES.items():
        if (stacked := getattr(weights.layers, leaf)) is not None:
            for l in range(c.n_layers):
                add(f"blk.{l}.{part}", _as_block(c, leaf, stacked[l]))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    os.replace(temporary, path)


def _as_block(c: DecoderConfig, leaf: str, array: np.ndarray) -> np.ndarray:
    """Return one layer's leaf in llama.cpp's layout: matrices [out, in], llama's rotary pairs adjacent."""
    if leaf == "o_lnhd":
        return array.reshape(-1, c.hidden_size).T
    if leaf in ("q_ldnh", "k_ldkh", "v_ldkh"):
        rows = array.reshape(c.hidden_size, -1).T
        if c.architecture == "llama" and leaf != "v_ldkh":
            n_heads = array.shape[1]
            rows = rows.reshape(n_heads, 2, c.head_dim // 2, -1).swapaxes(1, 2).reshape(rows.shape)
        return rows
    if leaf in ("q_bias_lnh", "k_bias_lkh", "v_bias_lkh"):
        return array.reshape(-1)
    return array.T
