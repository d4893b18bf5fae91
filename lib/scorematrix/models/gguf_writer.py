"""Write the weight tree as a GGUF file, so that llama.cpp scores with exactly our engines' weights."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from scorematrix.models.config import DecoderConfig
from scorematrix.models.gguf_reader import QUERY_KEY, gguf_names, swap_rotary
from scorematrix.models.safetensors_writer import hf_tensors
from scorematrix.models.weights import DecoderWeights


def write_gguf(path: Path, config: DecoderConfig, weights: DecoderWeights[np.ndarray], dtype: str) -> None:
    """Write a model without a vocabulary, because it is scored by token ids.

    Args:
        dtype: float32 or bfloat16, of the matrices; vectors stay float32, as llama.cpp wants them.

    Raises:
        ValueError: for llama3 rope scaling or an architecture that this writer does not support.
    """
    import gguf

    if config.rope_scaling is not None:
        raise ValueError(f"rope_scaling={config.rope_scaling} cannot be written to GGUF; choose a model without it")
    if not config.family.in_gguf:
        raise ValueError(f"architecture={config.architecture!r} cannot be written to GGUF; choose another model")
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

    name_of, half = gguf_names(c), c.head_dim // 2
    for hf_name, tensor in hf_tensors(config, weights).items():
        array = np.ascontiguousarray(tensor, np.float32)
        if arch == "llama" and hf_name.endswith(QUERY_KEY):
            array = swap_rotary(array, (2, half))
        if dtype == "bfloat16" and array.ndim == 2:
            kind = gguf.GGMLQuantizationType.BF16
            writer.add_tensor(name_of(hf_name), gguf.quantize(array, kind), raw_dtype=kind)
        else:
            writer.add_tensor(name_of(hf_name), array)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    os.replace(temporary, path)
